#!/usr/bin/env escript
%% -*- erlang -*-
%% Erlang's own figures for bench/benchmarks/runtime.py: CPU microseconds per unit, one "name value" a line.
-mode(compile).

main(_) ->
    N = 200000,
    report("spawn", N, fun() ->
        Me = self(),
        [spawn(fun() -> Me ! done end) || _ <- lists:seq(1, N)],
        [receive done -> ok end || _ <- lists:seq(1, N)] end),
    Me = self(),
    Sink = spawn(fun() -> sink(Me) end),
    report("send", 1000000, fun() -> [Sink ! 1 || _ <- lists:seq(1, 1000000)], Sink ! flush, receive flushed -> ok end end),
    Server = spawn(fun serve/0),
    report("call", 300000, fun() -> [gen_server:call(Server, 1, infinity) || _ <- lists:seq(1, 300000)] end),
    report("call with timeout", 300000, fun() -> [gen_server:call(Server, 1, 5000) || _ <- lists:seq(1, 300000)] end),
    restarts(),
    Before = erlang:memory(total),
    report("100k", 1, fun() -> put(kept, [spawn(fun idle/0) || _ <- lists:seq(1, 100000)]) end),
    io:format("memory ~p~n", [(erlang:memory(total) - Before) / 100000]).

report(Name, Count, Fun) ->
    erlang:garbage_collect(),
    {Start, _} = statistics(runtime),
    Fun(),
    {End, _} = statistics(runtime),
    io:format("~s ~p~n", [string:replace(Name, " ", "_", all), (End - Start) * 1000 / Count]).

idle() -> receive stop -> ok end.

sink(To) -> receive flush -> To ! flushed, sink(To); _ -> sink(To) end.

serve() -> receive {'$gen_call', From, Request} -> gen_server:reply(From, Request), serve() end.

%% A supervisor's restart as seen by a worker that is killed and waited for.
restarts() ->
    error_logger:tty(false),
    logger:set_primary_config(level, none),
    N = 2000,
    Start = fun() -> {ok, spawn_link(fun() -> register(bench_worker, self()), idle() end)} end,
    Module = bench_sup,
    Forms = [{attribute, 1, module, Module}, {attribute, 1, export, [{init, 1}]},
             {function, 1, init, 1, [{clause, 1, [{var, 1, 'X'}], [], [{var, 1, 'X'}]}]}],
    {ok, Module, Code} = compile:forms(Forms),
    code:load_binary(Module, "bench_sup", Code),
    put(start, Start),
    Spec = #{id => w, start => {erlang, apply, [Start, []]}},
    {ok, _} = supervisor:start_link(Module, {ok, {#{intensity => 1000000000, period => 3600}, [Spec]}}),
    report("restart", N, fun() -> [restart() || _ <- lists:seq(1, N)] end).

restart() ->
    case whereis(bench_worker) of
        undefined -> erlang:yield(), restart();
        Old -> exit(Old, crash), until_new(Old)
    end.

until_new(Old) ->
    case whereis(bench_worker) of
        undefined -> erlang:yield(), until_new(Old);
        Old -> erlang:yield(), until_new(Old);
        _ -> ok
    end.
