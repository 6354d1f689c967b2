%% Erlang's distribution for bench/benchmarks/nodes.py: microseconds of CPU of both nodes per unit, one "name value" a line.
-module(nodes_erlang).
-export([main/0, echo/0]).

main() ->
    {ok, Path} = file:get_cwd(),
    Arguments = ["-setcookie", "bench", "-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-pa", Path],
    {ok, _, Node} = peer:start_link(#{name => bench_b, host => "127.0.0.1", args => Arguments}),
    Server = spawn(Node, ?MODULE, echo, []),
    Message = {transaction, <<"5f1c8c0e-3a53-4a6e-8d3f-1de4c47b8a11">>, 4711},
    report(Node, "send", 200000, fun() ->
        [Server ! Message || _ <- lists:seq(1, 200000)],
        gen_server:call(Server, done, infinity) end),
    report(Node, "call", 20000, fun() -> calls(Server, Message, 20000) end),
    report(Node, "calls", 32000, fun() ->
        Me = self(),
        [spawn(fun() -> calls(Server, Message, 1000), Me ! done end) || _ <- lists:seq(1, 32)],
        [receive done -> ok end || _ <- lists:seq(1, 32)] end),
    init:stop().

echo() ->
    receive
        {'$gen_call', From, Request} -> gen_server:reply(From, Request), echo();
        _ -> echo()
    end.

calls(Server, Message, N) -> [gen_server:call(Server, Message, infinity) || _ <- lists:seq(1, N)].

cpu(Node) -> element(1, statistics(runtime)) + element(1, erpc:call(Node, erlang, statistics, [runtime])).

report(Node, Name, Count, Fun) ->
    Fun(),
    Start = cpu(Node),
    Fun(),
    io:format("~s ~p~n", [Name, (cpu(Node) - Start) * 1000 / Count]).
