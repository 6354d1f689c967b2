"""The behaviours and modules of OTP and Elixir: gen_server, gen_statem, supervisors, tasks, Registry, sys."""
