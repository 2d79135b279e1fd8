"""Calls a student's layer on all cases and judges what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from convcore.teaching.check.bugs import (
    Array,
    Bug,
    Inputs,
    equal,
    find_cause,
    wrong_places,
)
from convcore.teaching.check.exercise import Case, Exercise
from convcore.teaching.check.report import Check
from convcore.teaching.check.sandbox import Failed, Sandbox

#: Central differences of float64: their error is about STEP^2 + 1e-16 / STEP, relative.
_STEP = 1e-5
_NUMERIC_TOLERANCE = 1e-5
#: The same for layers that compute in float32.
_STEP32 = 1e-2
_NUMERIC_TOLERANCE32 = 2e-2

#: After these the process is gone.
_FATAL = ("time", "crashed")


@dataclass
class _Seen:
    """What the calls gave for one output or gradient."""

    results: list[tuple[Case, npt.NDArray[Any]]] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """How the student's layer is called.

    Attributes
    ----------
    form : {'function', 'loss', 'class'}
    forward, backward : str or None
        Names of functions; of the class, twice.
    parameters : tuple of str
        Of the constructor of a class; of a function, those that are given by name.
    required : tuple of str
        Those without a default.
    takes_settings : bool
        Whether a function takes the dictionary.
    """

    form: str
    forward: str
    backward: str | None
    parameters: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    takes_settings: bool = False


def names_of_arguments(exercise: Exercise) -> set[str]:
    """Return all the names that the arguments of a class may have."""
    if exercise.arguments is None:
        return set()
    inputs = exercise.cases(np.random.default_rng(0))[0].inputs
    return {name for names in exercise.arguments(inputs) for name in names}


class Grader:
    """Judges one layer.

    Parameters
    ----------
    exercise : Exercise
    target : Target
    sandbox : Sandbox
        Has loaded the file.
    rng : numpy.random.Generator
    """

    def __init__(
        self, exercise: Exercise, target: Target, sandbox: Sandbox, rng: np.random.Generator
    ) -> None:
        self.exercise = exercise
        self.target = target
        self.sandbox = sandbox
        self.cases = [case for case in exercise.cases(rng) if self._possible(case)]
        self.seen: dict[str, _Seen] = {}
        #: The gradients of the first call, and the dy that they are for.
        self.first: dict[str, npt.NDArray[Any]] = {}
        self.first_dy: Array = self.cases[0].inputs.get("dy", np.zeros(0))
        self.failures: list[tuple[str, Case, Failed]] = []
        self.modified: list[tuple[Case, str]] = []

    def run(self) -> tuple[Check, ...]:
        """Return the checks."""
        if self.target.form == "class":
            known = names_of_arguments(self.exercise)
            unknown = [name for name in self.target.required if name not in known]
            if unknown:
                names = ", ".join(sorted(known))
                message = f"__init__ has the parameter {unknown[0]!r}: expected some of {names}"
                return (Check("call", False, 1, 1, message),)
        fatal = self._call_all()
        checks = [self._failed_calls()] if self.failures else []
        outputs = [self._judge(part) for part in self.exercise.outputs if part in self.seen]
        checks += [self._complete(check, self.cases) for check in outputs]
        gradients = [
            part for part in self.exercise.gradients if part in self.seen or part in self.first
        ]
        if gradients:
            numeric = {} if fatal else self._finite_differences()
            forward_right = all(check.passed for check in outputs)
            cases = [case for case in self.cases if case.has_backward]
            for part in gradients:
                check = self._with_numeric(self._judge(part), numeric.get(part), forward_right)
                checks.append(self._complete(check, cases))
        if self.modified:
            case, names = self.modified[0]
            message = f"changes {names}, which belongs to the caller: work on a copy"
            calls = len(self.cases)
            checks.append(Check("inputs", False, calls, len(self.modified), message, case.label))
        if gradients and not fatal and not self.failures and self.target.form == "function":
            checks += self._cache()
        return tuple(checks)

    # ---- calling ---------------------------------------------------------------------------------

    def _call_all(self) -> bool:
        """Call the layer on all cases; return whether that ended its process."""
        for number, case in enumerate(self.cases):
            step = self.target.forward
            try:
                out = self._forward(case, str(number))
                has_backward = case.has_backward and self.target.form != "loss"
                if self.target.backward is not None and has_backward:
                    step = self.target.backward
                    if self.target.form == "class":
                        step += ".backward"
                    self._backward(case, str(number), out)
            except Failed as failed:
                self.failures.append((step, case, failed))
                if failed.kind in _FATAL or "Python process" in str(failed):
                    return True
        return False

    def _request(self, case: Case, key: str) -> dict[str, Any]:
        return {
            "name": self.target.forward,
            "form": self.target.form,
            "settings": self._plain(self.exercise.settings(case.inputs)),
            "takes_settings": self.target.takes_settings,
            "updated": self.exercise.updated,
            "arguments": self._arguments(case.inputs) if self.target.parameters else {},
            "key": key,
        }

    @staticmethod
    def _plain(settings: dict[str, Any]) -> dict[str, Any]:
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in settings.items()}

    def _arrays(self, case: Case) -> list[npt.NDArray[Any]]:
        return [case.inputs[name] for name in self.exercise.arrays]

    def _forward(self, case: Case, key: str) -> npt.NDArray[Any]:
        meta, results = self.sandbox.ask("forward", self._arrays(case), **self._request(case, key))
        self._note_modified(case, meta, self.exercise.arrays)
        plain = [part for part in self.exercise.outputs if part not in self.exercise.updated]
        for part, result in zip([*plain, *meta["updated"]], results, strict=False):
            self._see(part, case, result)
        return results[0]

    def _backward(self, case: Case, key: str, out: npt.NDArray[Any]) -> None:
        dy = case.inputs["dy"]
        if out.shape != dy.shape:  # backward is not to blame: let it have what fits
            if case is not self.cases[0]:
                return
            dy = self.first_dy = np.random.default_rng(0).standard_normal(out.shape)
        meta, results = self.sandbox.ask(
            "backward",
            [dy],
            name=self.target.backward,
            form=self.target.form,
            key=key,
        )
        self._note_modified(case, meta, ("dout",))
        parts = list(self.exercise.gradients)
        if len(results) != len(parts) and not self.target.form == "class":
            raise Failed(
                "unusable",
                f"{self.target.backward} returned {len(results)} values: "
                f"expected {', '.join(parts)}",
            )
        for i, (part, result) in enumerate(zip(parts, results, strict=False)):
            if i not in meta["missing"]:
                if case is self.cases[0]:
                    self.first[part] = result
                if dy is case.inputs["dy"]:
                    self._see(part, case, result)
            elif self.target.form != "class":
                raise Failed("unusable", f"{self.target.backward} returned None for {part}")
            else:
                raise Failed(
                    "unusable", f"{self.target.backward} left no {part} (looked for dW, db, grads)"
                )

    def _see(self, part: str, case: Case, result: npt.NDArray[Any]) -> None:
        self.seen.setdefault(part, _Seen()).results.append((case, result))

    def _note_modified(self, case: Case, meta: Mapping[str, Any], names: Sequence[str]) -> None:
        for which in meta["modified"]:
            self.modified.append((case, names[which]))

    # ---- classes ---------------------------------------------------------------------------------

    def _arguments(self, inputs: Inputs) -> dict[str, Any]:
        assert self.exercise.arguments is not None
        known = {
            name: value
            for names, value in self.exercise.arguments(inputs).items()
            for name in names
        }
        given = {}
        for parameter in self.target.parameters:
            if parameter in known:
                given[parameter] = known[parameter]
        return given

    def _possible(self, case: Case) -> bool:
        """Return whether a class can be asked for this: it may know no stride, or no padding."""
        if self.target.form != "class":
            return True
        inputs = case.inputs
        names = set(self.target.parameters)
        if "pad" in inputs and inputs["pad"] and not names & {"pad", "padding", "p"}:
            return False
        default = inputs.get("window", (1,))[0]
        if inputs.get("stride", default) != default and not names & {"stride", "strides", "s"}:
            return False
        not_square = {"filters that are not square", "windows that are not square"}
        return not case.tags & {*not_square, "as many inputs as outputs"}

    # ---- judging ---------------------------------------------------------------------------------

    def _judge(self, part: str) -> Check:
        """Compare all results of one output or gradient with the reference."""
        right = self.exercise.right(part)
        results = self.seen.get(part, _Seen()).results
        if not results:
            return Check(part, False, 0, 0, "not known: the output never has the right shape")
        observed = [(case, got, np.asarray(right(case.inputs))) for case, got in results]
        wrong = [(case, got, want) for case, got, want in observed if not equal(got, want)]
        if not wrong:
            return Check(part, True, len(observed))
        case, got, want = wrong[0]
        check = _first_difference(part, len(observed), len(wrong), case, got, want)
        bugs = find_cause(
            self.exercise.bugs.get(part, ()),
            right,
            [(case.inputs, got, want) for case, got, want in observed],
        )
        cause, advice = _describe(bugs) if bugs else self._other_part(part)
        rest = [case for case, got, want in observed if equal(got, want)]
        only_with = _in_common([case for case, _, _ in wrong], rest)
        return replace(check, cause=cause, advice=advice, only_with=only_with)

    def _complete(self, check: Check, cases: Sequence[Case]) -> Check:
        """Return the check; when calls failed, what is right in the others has not passed."""
        results = self.seen.get(check.part, _Seen()).results
        lacking = [case for case in cases if not any(case is seen for seen, _ in results)]
        if not self.failures or not lacking or not check.passed:
            return check
        message = "not computed there, right in the others"
        return Check(check.part, False, len(cases), len(lacking), message, lacking[0].label)

    def _other_part(self, part: str) -> tuple[str, str]:
        """Return whether it is another gradient: a wrong order of the results."""
        for other, right in self.exercise.gradients.items():
            results = self.seen[part].results
            if other == part or not all(equal(got, right(case.inputs)) for case, got in results):
                continue
            if all(equal(got, right(case.inputs)) for case, got in self.seen[other].results):
                return f"the same as {other}", f"this is {other} once more"
            order = ", ".join(self.exercise.gradients)
            return "gradients in another order", f"this is {other}: return {order}"
        return "", ""

    def _failed_calls(self) -> Check:
        step, case, failed = self.failures[0]
        cases = [case for _, case, _ in self.failures]
        rest = [case for case in self.cases if case not in cases]
        fatal = failed.kind in _FATAL
        called = failed.kind == "raised" and " argument" in str(failed)
        return Check(
            "call",
            False,
            len(self.cases),
            len(cases),
            f"{step} {failed}" if failed.kind != "unusable" else str(failed),
            case.label,
            only_with=() if fatal else _in_common(cases, rest),
            cause=_CAUSES.get(failed.kind, "called in another way" if called else ""),
            advice=_ADVICE.get(failed.kind, self.exercise.signature if called else ""),
        )

    # ---- finite differences ----------------------------------------------------------------------

    def _finite_differences(self) -> dict[str, tuple[bool, bool]]:
        """Return of each gradient whether it agrees with the student's own forward.

        The first case is small, and smooth around its numbers.
        """
        case, found = self.cases[0], self.first
        if not found:
            return {}
        output = next(iter(self.exercise.outputs))
        narrow = self.seen[output].results[0][1].dtype != np.float64
        which = [self.exercise.arrays.index(name) for name in self.exercise.differentiated]
        try:
            _, numeric = self.sandbox.ask(
                "numeric",
                [*self._arrays(case), self.first_dy],
                inputs=which,
                step=_STEP32 if narrow else _STEP,
                **self._request(case, "numeric"),
            )
        except Failed:
            return {}
        tolerance = _NUMERIC_TOLERANCE32 if narrow else _NUMERIC_TOLERANCE
        agree = {}
        for part, want in zip(self.exercise.gradients, numeric, strict=True):
            if part in found:
                got = found[part]
                same = got.shape == want.shape
                near = same and not wrong_places(got.astype(np.float64), want, tolerance).any()
                agree[part] = (near, narrow)
        return agree

    @staticmethod
    def _with_numeric(
        check: Check, numeric: tuple[bool, bool] | None, forward_right: bool
    ) -> Check:
        """Return the check of a gradient, seen beside the student's own forward.

        Where forward is wrong, a gradient that belongs to it is right.
        """
        if numeric is None or check.passed:
            return check
        agrees, _ = numeric
        if agrees and not forward_right:
            return Check(
                check.part,
                True,
                check.calls,
                message="by finite differences it belongs to your forward, which is wrong",
            )
        return replace(check, finite_differences="agree" if agrees else "differ")

    # ---- the cache -------------------------------------------------------------------------------

    def _cache(self) -> list[Check]:
        """Check that a backward belongs to its own forward, and can be called twice."""
        if len(self.cases) < 2:
            return []
        first, second = self.cases[:2]
        part = next(iter(self.exercise.gradients))
        before = self.first[part].astype(np.float64)
        ask = {"name": self.target.backward, "form": self.target.form}
        outside = "state outside of the cache"
        alone = "backward has to work with the cache alone: no global variables"
        try:
            for case, key in ((first, "first"), (second, "second")):
                self.sandbox.ask("forward", self._arrays(case), **self._request(case, key))
            dy = [self.first_dy]
            once = self.sandbox.ask("backward", dy, key="first", **ask)[1][0]
            again = self.sandbox.ask("backward", dy, key="first", **ask)[1][0]
        except Failed as failed:
            message = f"after another forward, {self.target.backward} of the first {failed}"
            return [Check("cache", False, 1, 1, message, cause=outside, advice=alone)]
        if not equal(once, before):
            message = "after another forward, backward of the first gives something else"
            return [Check("cache", False, 1, 1, message, cause=outside, advice=alone)]
        if not equal(again, before):
            message = "a second backward with the same cache gives something else"
            advice = "backward changes the arrays in its cache: work on copies"
            return [Check("cache", False, 1, 1, message, cause="cache changed", advice=advice)]
        return [Check("cache", True, 1)]


_CAUSES = {"time": "too slow, or endless", "memory": "too much memory"}
_ADVICE = {
    "time": "look at the conditions of the while loops; the images are tiny",
    "memory": "look at the sizes of the arrays that are made",
}


def _describe(bugs: Iterable[Bug]) -> tuple[str, str]:
    bugs = tuple(bugs)
    return " and ".join(bug.cause for bug in bugs), "; ".join(bug.advice for bug in bugs)


def _in_common(wrong: Sequence[Case], right: Sequence[Case]) -> tuple[str, ...]:
    """Return what all wrong cases have and no right one has."""
    if not right or not wrong:
        return ()
    common = frozenset.intersection(*(case.tags for case in wrong))
    return tuple(sorted(common - frozenset().union(*(case.tags for case in right))))


def _first_difference(
    part: str, calls: int, wrong: int, case: Case, got: npt.NDArray[Any], want: Array
) -> Check:
    check = Check(part, False, calls, wrong, case=case.label)
    if got.shape != want.shape:
        message = f"has the shape {got.shape}: expected {want.shape}"
        return replace(check, message=message)
    places = np.argwhere(wrong_places(got, want))
    if len(places) == 0:  # both not finite, in other places
        places = np.argwhere(~np.isfinite(got))
    index = tuple(int(axis) for axis in places[0])
    expected, found = float(want[index]), float(got[index])
    place = f"{part}[{', '.join(map(str, index))}]" if index else part
    message = f"{place}: expected {expected:.6g}, got {found:.6g}"
    if want.size > 1:
        message += f" ({len(places)} of {want.size} numbers are wrong)"
    return replace(check, message=message, index=index, expected=expected, got=found)
