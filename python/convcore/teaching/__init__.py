"""For lectures and exercises: networks explained, students' layers checked.

`convcore.explain` writes out the arithmetic of a network, `convcore.check` finds what is wrong with
a layer that a student wrote. The lectures that the examples are from:

- "Convolutional Neural Networks", 6.390 Intro to Machine Learning, MIT, 2024;
- "Convolutional Neural Networks (CNN)", AA2 Deep Learning, UPC (X. Giro-i-Nieto, M. Bellver);
- "Lecture 16: Convolutional Neural Networks", CS 725 Foundations of Machine Learning, 2024
  (P. Jyothi);
- "Deep Learning for Images: Convolutional Neural Networks", MIT (S. Jegelka);
- "Convolutional neural networks", a lecture of a statistics department, 2025.
"""
