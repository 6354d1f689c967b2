%% Performs scenarios (see tests/otp) on real Erlang/OTP and writes what happened, a line of JSON for each.
%%
%% `erl -noshell -pa DIR -s oracle main FILE [SEED]`: FILE holds a term `{Name, Steps}.` for each scenario, JSON objects as maps
%% and JSON strings as atoms. The runner owns the tables, traces every process of the scenario for its end, and decides when a
%% step is over: when nobody runs and nothing has happened for two looks. With a SEED the processes are disturbed: they have
%% priorities by chance, and give way or sleep for a moment before what they do, so that what is a race shows as one.
-module(oracle).
-export([main/1, init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2, terminate/2]).
-export([add/1, log/2, decode/1, raise/2]).
-export([start_node/1, start_node/2, start_node/3, code_change/3]).

main([File, Seed]) ->
    persistent_term:put(disturbed, list_to_integer(atom_to_list(Seed))),
    main([File]);
main([File]) ->
    logger:set_primary_config(level, none),
    %% A process that waits for its code to be loaded would look as if it were at rest.
    code:ensure_modules_loaded([list_to_atom(Name) || {Name, _, _} <- code:all_available(), library(Name)]),
    {ok, Scenarios} = file:consult(File),
    lists:foreach(fun({Name, Steps}) -> io:format("~ts~n", [scenario(Name, Steps)]) end, Scenarios),
    halt().

library(Name) -> lists:prefix("gen", Name) orelse lists:prefix("logger", Name) orelse
    lists:member(Name, ["machine", "listener", "supervisor", "proc_lib", "sys", "error_logger", "erl_error", "io_lib", "timer", "queue", "sets"]).

%% ---- one scenario

scenario(Name, Steps) ->
    ets:new(generations, [named_table, public]),
    ets:new(pids, [named_table, public]),
    ets:new(labels, [named_table, public]),
    ets:new(refs, [named_table, public]),
    ets:new(ref_names, [named_table, public]),
    ets:new(events, [named_table, public, ordered_set]),
    Others = processes(),
    put(others, Others),
    Runner = self(),
    Driver = spawn(fun() ->
        receive go -> ok end,
        process_flag(trap_exit, true),
        add(driver),
        Runner ! started,
        plain(auto)
    end),
    erlang:trace(Driver, true, [procs, set_on_spawn, strict_monotonic_timestamp]),
    Driver ! go,
    receive started -> ok end,
    Trace = [step(Step) || Step <- Steps],
    Alive = lists:sort([Label || {Label, Pid} <- ets:tab2list(pids), is_process_alive(Pid)]),
    [exit(Pid, kill) || Pid <- processes() -- Others],
    settle(0),
    flush_trace(),
    [ets:delete(T) || T <- [generations, pids, labels, refs, ref_names, events]],
    json(#{name => Name, trace => {raw, Trace}, alive => Alive}).

step(#{do := Ops} = Step) ->
    By = maps:get(by, Step, driver),
    ets:delete_all_objects(events),
    case find(By) of
        {ok, Pid} ->
            case is_process_alive(Pid) of
                true -> Pid ! {'$steps', Ops};
                false -> note([skip, By])
            end;
        none ->
            note([skip, By])
    end,
    timer:sleep(maps:get(settle_ms, Step, 0)),
    settle(0),
    flush_trace(),
    [encode_event(Event) || {_, Event} <- ets:tab2list(events)].

settle(Round) when Round > 500 -> ok;
settle(Round) ->
    First = sample(),
    timer:sleep(1),
    case {sample(), quiet(First)} of
        {First, true} ->
            timer:sleep(2),
            case sample() of
                First -> ok;
                _ -> settle(Round + 1)
            end;
        _ -> settle(Round + 1)
    end.

sample() ->
    {ets:info(events, size),
     [{Pid, process_info(Pid, [status, reductions, message_queue_len])} || Pid <- processes() -- get(others)]}.

quiet({_, Processes}) ->
    lists:all(fun({_, [{status, waiting} | _]}) -> true; (_) -> false end, Processes).

flush_trace() ->
    Delivered = erlang:trace_delivered(all),
    receive {trace_delivered, all, Delivered} -> ok end,
    flush_traced().

flush_traced() ->
    receive
        {trace_ts, Pid, exit, Reason, At} ->
            case ets:lookup(labels, Pid) of
                [{_, Label}] -> ets:insert(events, {At, [down, Label, {term, Reason}]});
                [] -> ok
            end,
            flush_traced();
        Traced when element(1, Traced) == trace_ts -> flush_traced()
    after 0 -> ok
    end.

note(Event) -> ets:insert(events, {{erlang:monotonic_time(), erlang:unique_integer([monotonic])}, Event}).

log(Kind, Rest) ->
    disturb(),
    [{_, Label}] = ets:lookup(labels, self()),
    note([Kind, Label | Rest]).

%% A moment in which others run, of a process that is to be disturbed.
disturb() ->
    case get(disturbed) of
        undefined -> ok;
        _ ->
            case rand:uniform(6) of
                1 -> timer:sleep(1);
                2 -> erlang:yield();
                3 -> [erlang:yield() || _ <- lists:seq(1, 20)];
                _ -> ok
            end
    end.

%% ---- who is who

add(Id) ->
    {Label, Generation} = add(Id, self()),
    case persistent_term:get(disturbed, none) of
        none -> ok;
        Seed ->
            put(disturbed, rand:seed(exsss, {Seed, erlang:phash2(Label), 17})),
            process_flag(priority, lists:nth(rand:uniform(4), [low, normal, normal, high]))
    end,
    Generation.

add(Id, Pid) ->
    Generation = ets:update_counter(generations, Id, 1, {Id, 0}),
    Label = list_to_atom(lists:concat([Id, "#", Generation])),
    ets:insert(labels, {Pid, Label}),
    ets:insert(pids, {Label, Pid}),
    {Label, Generation}.

find(Who) ->
    Text = atom_to_list(Who),
    Label = case lists:member($#, Text) of
        true -> Who;
        false -> list_to_atom(lists:concat([Who, "#", case ets:lookup(generations, Who) of [{_, N}] -> N; [] -> 0 end]))
    end,
    case ets:lookup(pids, Label) of
        [{_, Pid}] -> {ok, Pid};
        [] -> none
    end.

pid(Who) -> case find(Who) of {ok, Pid} -> Pid; none -> error(unknown_id) end.

ref(Name) -> case ets:lookup(refs, Name) of [{_, Ref}] -> Ref; [] -> error(unknown_ref) end.

named(#{as := Name}, Ref) -> ets:insert(refs, {Name, Ref}), ets:insert(ref_names, {Ref, Name}), Ref;
named(_, Ref) -> Ref.

dest(#{name := Name}) -> Name;
dest(self) -> self();
dest(Who) -> pid(Who).

decode(L) when is_list(L) -> [decode(T) || T <- L];
decode(#{t := L}) -> list_to_tuple([decode(T) || T <- L]);
decode(#{m := Pairs}) -> maps:from_list([{decode(K), decode(V)} || [K, V] <- Pairs]);
decode(#{pid := Who}) -> pid(Who);
decode(#{ref := Name}) -> ref(Name);
decode(T) -> T.

%% ---- plain processes

plain(Mode) ->
    put(mode, Mode),
    case Mode of
        auto ->
            receive
                {'$steps', Ops} -> plain_steps(Ops);
                Message -> log(recv, [{term, Message}]), plain(Mode)
            end;
        manual ->
            receive {'$steps', Ops} -> plain_steps(Ops) end
    end.

plain_steps(Ops) ->
    case perform(Ops) of
        return -> ok;
        ok -> plain(get(mode))
    end.

perform([]) -> ok;
perform([#{op := return} | _]) -> return;
perform([#{op := exit_self, reason := Reason} = Op | _]) ->
    raise(maps:get(class, Op, exit), decode(Reason));
perform([#{op := Name} = Op | Rest]) ->
    disturb(),
    try op(Name, Op) of
        quiet -> ok;
        {value, Value} -> log(ok, [Name, {term, Value}])
    catch
        Class:Reason -> log(exc, [Name, Class, {term, Reason}])
    end,
    perform(Rest).

raise(exit, R) -> exit(R);
raise(error, R) -> error(R);
raise(throw, R) -> throw(R).

%% ---- ops

op(spawn, #{id := Id} = Op) ->
    Me = self(),
    Options = [Option || Option <- [link, monitor], maps:get(Option, Op, false) == true],
    Body = fun() ->
        add(Id),
        maps:get(trap, Op, false) == true andalso process_flag(trap_exit, true),
        Me ! {'$started', self()},
        plain(maps:get(mode, Op, auto))
    end,
    Result = spawn_opt(Body, Options),
    Pid = case Result of {P, Ref} -> named(Op, Ref), P; P -> P end,
    receive {'$started', Pid} -> ok end,
    {value, Result};
op(link, #{to := To}) -> {value, link(dest(To))};
op(unlink, #{to := To}) -> {value, unlink(dest(To))};
op(monitor, #{to := To} = Op) -> {value, named(Op, monitor(process, dest(To)))};
op(demonitor, #{ref := Ref} = Op) -> {value, demonitor(ref(Ref), maps:get(opts, Op, []))};
op(exit, #{to := To, reason := Reason}) -> {value, exit(dest(To), decode(Reason))};
op(trap_exit, #{value := Value}) -> {value, process_flag(trap_exit, Value)};
op(send, #{to := To, msg := Message}) -> dest(To) ! decode(Message), quiet;
op(register, #{name := Name, to := To}) -> {value, register(Name, dest(To))};
op(unregister, #{name := Name}) -> {value, unregister(Name)};
op(whereis, #{name := Name}) -> {value, whereis(Name)};
op(is_alive, #{to := To}) -> {value, is_process_alive(dest(To))};
op(links_of, #{to := To}) ->
    {value, labels_of(process_info(dest(To), links))};
op(monitors_of, #{to := To}) ->
    {value, labels_of(process_info(dest(To), monitors))};
op(mailbox_of, #{to := To}) ->
    {value, case process_info(dest(To), messages) of
        undefined -> undefined;
        {messages, Mail} -> [M || M <- Mail, not ours(M)]
    end};
op(send_after, #{ms := Ms, to := To, msg := M} = Op) -> {value, named(Op, erlang:send_after(Ms, dest(To), decode(M)))};
op(start_timer, #{ms := Ms, to := To, msg := M} = Op) -> {value, named(Op, erlang:start_timer(Ms, dest(To), decode(M)))};
op(cancel_timer, #{ref := Ref}) -> {value, left(erlang:cancel_timer(ref(Ref)))};
op(read_timer, #{ref := Ref}) -> {value, left(erlang:read_timer(ref(Ref)))};
op(sleep, #{ms := Ms}) -> timer:sleep(Ms), quiet;
op('receive', Op) ->
    After = maps:get('after', Op, infinity),
    {value, case Op of
        #{tag := Tag} ->
            receive
                Tag -> Tag;
                M when is_tuple(M), tuple_size(M) > 0, element(1, M) =:= Tag -> M
            after After -> '$timeout' end;
        #{match := Wanted0} ->
            Wanted = decode(Wanted0),
            receive M when M =:= Wanted -> M after After -> '$timeout' end;
        _ ->
            receive M when not (is_tuple(M) andalso tuple_size(M) > 0 andalso element(1, M) =:= '$steps') -> M
            after After -> '$timeout' end
    end};
op(flush, Op) ->
    receive M when not (is_tuple(M) andalso tuple_size(M) > 0 andalso element(1, M) =:= '$steps') ->
        log(recv, [{term, M}]), op(flush, Op)
    after 0 -> quiet end;
op(mode, #{mode := Mode}) -> put(mode, Mode), quiet;
op(call, #{to := To, act := Act} = Op) ->
    {value, gen_server:call(dest(To), {act, Act}, maps:get(timeout, Op, infinity))};
op(cast, #{to := To, act := Act}) -> gen_server:cast(dest(To), {act, Act}), quiet;
op(info, #{to := To, act := Act}) -> dest(To) ! {act, Act}, quiet;
op(gen_stop, #{to := To} = Op) ->
    {value, gen_server:stop(dest(To), decode(maps:get(reason, Op, normal)), maps:get(timeout, Op, infinity))};
op(start_tree, #{tree := Tree}) -> {value, start_node(Tree)};
op(start_worker, #{worker := Spec} = Op) -> {value, start_worker(Spec, maps:get(link, Op, true))};
op(start_machine, #{machine := #{id := Id} = Spec}) ->
    {value, gen_statem:start_link({local, Id}, machine, Spec, [])};
op(suspend, #{to := To}) -> {value, sys:suspend(dest(To))};
op(resume, #{to := To}) -> {value, sys:resume(dest(To))};
op(statistics, #{to := To, flag := Flag}) ->
    {value, case sys:statistics(dest(To), Flag) of
        {ok, Counts} when is_list(Counts) -> {ok, [proplists:get_value(Count, Counts) || Count <- [messages_in, messages_out]]};
        Other -> Other
    end};
op(sys_status, #{to := To}) ->
    {status, _, {module, _}, [_, Status | _]} = sys:get_status(dest(To)),
    {value, Status};
op(sys_terminate, #{to := To, reason := Reason}) -> {value, sys:terminate(dest(To), decode(Reason))};
op(start_manager, #{id := Id} = Op) ->
    Result = case maps:get(link, Op, true) of
        true -> gen_event:start_link({local, Id});
        false -> gen_event:start({local, Id})
    end,
    case Result of {ok, Pid} -> add(Id, Pid); _ -> ok end,
    {value, Result};
op(add_handler, #{to := To, spec := #{id := Id} = Spec} = Op) ->
    {value, case maps:get(sup, Op, false) of
        true -> gen_event:add_sup_handler(dest(To), {listener, Id}, Spec);
        false -> gen_event:add_handler(dest(To), {listener, Id}, Spec)
    end};
op(delete_handler, #{to := To, handler := Id, arg := Argument}) ->
    {value, gen_event:delete_handler(dest(To), {listener, Id}, Argument)};
op(swap_handler, #{to := To, handler := Old, arg := Argument, spec := #{id := New} = Spec} = Op) ->
    {value, case maps:get(sup, Op, false) of
        true -> gen_event:swap_sup_handler(dest(To), {{listener, Old}, Argument}, {{listener, New}, Spec});
        false -> gen_event:swap_handler(dest(To), {{listener, Old}, Argument}, {{listener, New}, Spec})
    end};
op(notify, #{to := To, act := Act}) -> gen_event:notify(dest(To), {act, Act}), quiet;
op(sync_notify, #{to := To, act := Act}) -> {value, gen_event:sync_notify(dest(To), {act, Act})};
op(call_handler, #{to := To, handler := Id, act := Act} = Op) ->
    {value, gen_event:call(dest(To), {listener, Id}, {act, Act}, maps:get(timeout, Op, infinity))};
op(which_handlers, #{to := To}) -> {value, gen_event:which_handlers(dest(To))};
op(which_children, #{sup := Sup}) ->
    Rows = [{Id, Child, Type} || {Id, Child, Type, _} <- supervisor:which_children(dest(Sup))],
    {value, case lists:all(fun({Id, _, _}) -> Id == undefined end, Rows) of
        true -> [Row || {_, Row} <- lists:sort([{iolist_to_binary(json(encode(Row))), Row} || Row <- Rows])];
        false -> Rows
    end};
op(count_children, #{sup := Sup}) -> {value, supervisor:count_children(dest(Sup))};
op(start_child, #{sup := Sup, args := Args}) -> {value, supervisor:start_child(dest(Sup), Args)};
op(start_child, #{sup := Sup, child := Child}) -> {value, supervisor:start_child(dest(Sup), child_spec(Child))};
op(terminate_child, #{sup := Sup, child := Child}) -> {value, supervisor:terminate_child(dest(Sup), decode(Child))};
op(restart_child, #{sup := Sup, child := Child}) -> {value, supervisor:restart_child(dest(Sup), decode(Child))};
op(delete_child, #{sup := Sup, child := Child}) -> {value, supervisor:delete_child(dest(Sup), decode(Child))};
op(get_childspec, #{sup := Sup, child := Child}) ->
    {value, case supervisor:get_childspec(dest(Sup), decode(Child)) of
        {ok, Spec} -> {ok, maps:without([start, modules], Spec)};
        Error -> Error
    end}.

left(false) -> false;
left(Left) when is_integer(Left) -> time_left.

ours({'$steps', _}) -> true;
ours({'$started', _}) -> true;
ours(_) -> false.

labels_of(undefined) -> undefined;
labels_of({_, Found}) -> lists:sort(lists:append([label_of(F) || F <- Found])).

label_of({process, {Name, _}}) -> [list_to_atom("name:" ++ atom_to_list(Name))];
label_of({process, Pid}) -> label_of(Pid);
label_of(Pid) -> case ets:lookup(labels, Pid) of [{_, Label}] -> [Label]; [] -> [] end.

%% ---- supervisors

start_node(#{start := ['return', Term]}) -> decode(Term);
start_node(#{start := [Class, Reason]}) -> raise(Class, decode(Reason));
start_node(#{kind := sup, id := Id} = Spec) ->
    case maps:get(register, Spec, true) of
        true -> supervisor:start_link({local, Id}, ?MODULE, {sup, Spec});
        false -> supervisor:start_link(?MODULE, {sup, Spec})
    end;
start_node(Spec) -> start_worker(Spec, true).

start_node(Spec, Id) -> start_node(Spec#{id => Id}).
start_node(Spec, Id, Overrides) -> start_node(maps:merge(Spec#{id => Id}, Overrides)).

start_worker(#{id := Id} = Spec, Link) ->
    Options = case Spec of #{start_timeout := Ms} -> [{timeout, Ms}]; _ -> [] end,
    case {maps:get(register, Spec, true), Link} of
        {true, true} -> gen_server:start_link({local, Id}, ?MODULE, {worker, Spec}, Options);
        {true, false} -> gen_server:start({local, Id}, ?MODULE, {worker, Spec}, Options);
        {false, true} -> gen_server:start_link(?MODULE, {worker, Spec}, Options);
        {false, false} -> gen_server:start(?MODULE, {worker, Spec}, Options)
    end.

child_spec(#{id := Id} = Spec) ->
    Given = maps:with([restart, shutdown, significant], Spec),
    Type = case Spec of #{kind := sup} -> supervisor; _ -> worker end,
    maps:merge(Given, #{type => Type, id => decode(Id), start => {?MODULE, start_node, [Spec]}}).

%% ---- callbacks

init({sup, #{id := Id} = Spec}) ->
    add(Id),
    log(init, []),
    case maps:get(init, Spec, ok) of
        ok ->
            Flags = maps:with([strategy, intensity, period, auto_shutdown], Spec),
            {ok, {Flags, [child_spec(Child) || Child <- maps:get(children, Spec)]}};
        [Class, Reason] -> raise(Class, decode(Reason));
        Other -> Other
    end;
init({worker, #{id := Id} = Spec}) ->
    put(generation, add(Id)),
    maps:get(trap_exit, Spec, false) == true andalso process_flag(trap_exit, true),
    log(init, []),
    timer:sleep(by_generation(maps:get(init_delay_ms, Spec, 0))),
    perform(maps:get(init_do, Spec, [])),
    State = #{spec => Spec, kept => #{}},
    case by_generation(maps:get(init, Spec, ok)) of
        ok -> {ok, State};
        hibernate -> {ok, State, hibernate};
        [stop, Reason] -> {stop, decode(Reason)};
        [timeout, Ms] -> {ok, State, Ms};
        [continue, Act] -> {ok, State, {continue, Act}};
        [Class, Reason] -> raise(Class, decode(Reason));
        Other -> Other
    end.

by_generation(#{seq := Values}) -> lists:nth(min(get(generation), length(Values)), Values);
by_generation(Value) -> Value.

handle_call({act, [Name | _] = Act}, From, State) -> log(call, [Name]), act(Act, {call, From}, State).
handle_cast({act, [Name | _] = Act}, State) -> log(cast, [Name]), act(Act, none, State).
handle_continue([Name | _] = Act, State) -> log(continue, [Name]), act(Act, none, State).
handle_info({'$steps', Ops}, State) -> perform(Ops), {noreply, State};
handle_info({act, [Name | _] = Act}, State) -> log(info, [[Name]]), act(Act, none, State);
handle_info(Message, State) -> log(info, [{term, Message}]), {noreply, State}.

terminate(Reason, #{spec := Spec}) ->
    log(terminate, [{term, Reason}]),
    timer:sleep(maps:get(terminate_delay_ms, Spec, 0)),
    perform(maps:get(terminate_do, Spec, [])),
    case maps:get(terminate, Spec, ok) of
        [Class, R] -> raise(Class, decode(R));
        Other -> Other
    end.

code_change(_, State, _) -> {ok, State}.

done(none, State) -> {noreply, State};
done(_, State) -> {reply, ok, State}.

done(none, State, Option) -> {noreply, State, Option};
done(_, State, Option) -> {reply, ok, State, Option}.

act([noop], From, State) -> done(From, State);
act([reply, X], From, State) ->
    case From of none -> {noreply, State}; _ -> {reply, decode(X), State} end;
act([defer, K], From, #{kept := Kept} = State) -> {noreply, State#{kept => Kept#{K => From}}};
act([answer, K, X], From, #{kept := Kept} = State) ->
    {call, To} = map_get(K, Kept),
    gen_server:reply(To, decode(X)),
    done(From, State);
act([reply_then, X, Then], {call, From}, State) -> gen_server:reply(From, decode(X)), act(Then, none, State);
act([stop, R], _, State) -> {stop, decode(R), State};
act([stop_reply, R, _], none, State) -> {stop, decode(R), State};
act([stop_reply, R, X], _, State) -> {stop, decode(R), decode(X), State};
act([error, R], _, _) -> error(decode(R));
act([exit, R], _, _) -> exit(decode(R));
act([throw, R], _, _) -> throw(decode(R));
act([bad], _, _) -> bad;
act([timeout, Ms], From, State) -> done(From, State, Ms);
act([continue, Act], From, State) -> done(From, State, {continue, Act});
act([hibernate], From, State) -> done(From, State, hibernate);
act([sleep, Ms, Act], From, State) -> timer:sleep(Ms), act(Act, From, State);
act([do, Ops], From, State) -> perform(Ops), done(From, State).

%% ---- terms to JSON

encode_event(Event) -> {raw_list, [encode_part(Part) || Part <- Event]}.

encode_part({term, Term}) -> encode(Term);
encode_part(Part) -> Part.

encode(T) when is_atom(T); is_integer(T) -> T;
encode(T) when is_pid(T) -> #{pid => case label_of(T) of [Label] -> Label; [] -> '?' end};
encode(T) when is_reference(T) -> #{ref => case ets:lookup(ref_names, T) of [{_, Name}] -> Name; [] -> '?' end};
encode({gen_server, call, [_ | _]}) -> '$call';
encode({gen_event, Function, _}) when Function == rpc; Function == call; Function == send_request -> '$call';
encode({?MODULE, start_node, [_ | _]}) -> '$mfa';
encode({act, Act}) -> #{t => [act, Act]};
encode(T) when is_tuple(T), element(1, T) == child, tuple_size(T) == 9 -> '$child';
encode(T) when is_tuple(T) -> #{t => [encode(E) || E <- tuple_to_list(T)]};
encode([alias | Ref]) when is_reference(Ref) -> #{ref => '?'};
encode(T) when is_list(T) ->
    case T =/= [] andalso is_list(T) andalso length(T) > 0 andalso lists:all(fun frame/1, T) of
        true -> '$stack';
        false -> [encode(E) || E <- T]
    end;
encode(T) when is_map(T) -> #{m => lists:sort([[encode(K), encode(V)] || {K, V} <- maps:to_list(T)])};
encode(T) when is_function(T) -> '$mfa';
encode(T) -> list_to_atom(lists:flatten(io_lib:format("~p", [T]))).

frame({M, F, A, L}) when is_atom(M), is_atom(F), is_list(L) -> is_integer(A) orelse is_list(A);
frame(_) -> false.

json({raw, Steps}) -> ["[", lists:join(",", [["[", lists:join(",", [json(E) || E <- Step]), "]"] || Step <- Steps]), "]"];
json({raw_list, Parts}) -> json(Parts);
json(T) when is_integer(T) -> integer_to_list(T);
json(T) when is_atom(T) -> [$", [escape(C) || C <- atom_to_list(T)], $"];
json(T) when is_list(T) -> ["[", lists:join(",", [json(E) || E <- T]), "]"];
json(T) when is_map(T) ->
    ["{", lists:join(",", [[json(K), ":", json(V)] || {K, V} <- maps:to_list(T)]), "}"].

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape($\n) -> "\\n";
escape(C) -> C.
