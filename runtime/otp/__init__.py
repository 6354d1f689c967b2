"""OTP's behaviours on the core: gen_server, gen_statem, supervisors, tasks, Registry, sys."""
