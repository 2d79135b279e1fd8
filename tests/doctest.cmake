# doctest for the C++ tests: the one of this system, else fetched. Included by each folder that uses it.
find_package(doctest QUIET)
if(doctest_FOUND)
  message(STATUS "C++ tests: doctest ${doctest_VERSION} of this system")
else()
  message(STATUS "C++ tests: doctest is not installed (Debian: doctest-dev), so it is fetched now; "
                 "without a network, install it and configure again")
  include(FetchContent)
  set(DOCTEST_WITH_TESTS OFF CACHE BOOL "" FORCE)
  set(DOCTEST_NO_INSTALL ON CACHE BOOL "" FORCE)
  FetchContent_Declare(
    doctest
    GIT_REPOSITORY https://github.com/doctest/doctest.git
    GIT_TAG v2.4.12
    GIT_SHALLOW TRUE)
  FetchContent_MakeAvailable(doctest)
endif()
