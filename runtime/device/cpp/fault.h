// No exception leaves these functions: its text is kept for `ferry_fault`, and a value that means failure is returned.
#pragma once

#include <exception>
#include <string>

namespace ferry {

std::string& last_fault() noexcept;

template <typename Value, typename Act>
Value guarded(Value failure, Act act) noexcept {
  try {
    return act();
  } catch (const std::exception& error) {
    last_fault() = error.what();
  } catch (...) {
    last_fault() = "an exception that is not of the standard library";
  }
  return failure;
}

}  // namespace ferry
