"""OTP's actor runtime on Thespian. See docs/runtime.md; each OTP concept is a module of its own name."""
