%% A gen_statem that does what its events say: see tests/otp/machine.py, its twin.
-module(machine).
-behaviour(gen_statem).
-export([init/1, callback_mode/0, handle_event/4, terminate/3, a/3, b/3, c/3]).

init(#{id := Id, mode := Mode, init := [State, Actions]} = Spec) ->
    oracle:add(Id),
    maps:get(trap_exit, Spec, false) == true andalso process_flag(trap_exit, true),
    put(mode, case maps:get(enter, Spec, false) of true -> [Mode, state_enter]; false -> Mode end),
    put(enters, maps:get(enters, Spec, #{})),
    put(kept, #{}),
    put(handled, #{}),
    oracle:log(init, []),
    {ok, State, data, actions(Actions, none)}.

callback_mode() -> get(mode).

a(Type, Content, Data) -> handle_event(Type, Content, a, Data).
b(Type, Content, Data) -> handle_event(Type, Content, b, Data).
c(Type, Content, Data) -> handle_event(Type, Content, c, Data).

handle_event(enter, Old, State, _) ->
    oracle:log(enter, [Old, State]),
    results({enter, State}, maps:get(State, get(enters), []), none, State);
handle_event(Type, {act, #{tag := Tag, do := Results}}, State, _) ->
    From = case Type of {call, F} -> put(kept, (get(kept))#{Tag => F}), F; _ -> none end,
    oracle:log(event, [type(Type), Tag, State]),
    results(Tag, Results, From, State);
handle_event(Type, Other, State, _) ->
    oracle:log(event, [type(Type), {term, Other}, State]),
    keep_state_and_data.

terminate(Reason, State, _) -> oracle:log(terminate, [{term, Reason}, State]).

type({call, _}) -> call;
type({timeout, Name}) -> [timeout, Name];
type(Type) -> Type.

%% What the k-th handling of an event returns; whatever comes after the last of them keeps the state.
results(Key, Results, From, State) ->
    K = maps:get(Key, get(handled), 0) + 1,
    put(handled, (get(handled))#{Key => K}),
    case K =< length(Results) of
        true -> result(lists:nth(K, Results), From, State);
        false -> keep_state_and_data
    end.

result([next_state, State, Actions], From, _) -> {next_state, State, data, actions(Actions, From)};
result([same_state, Actions], From, State) -> {next_state, State, data, actions(Actions, From)};
result([keep_state, Actions], From, _) -> {keep_state_and_data, actions(Actions, From)};
result([repeat_state, Actions], From, _) -> {repeat_state_and_data, actions(Actions, From)};
result([stop, Reason], _, _) -> {stop, oracle:decode(Reason)};
result([stop_and_reply, Reason, Actions], From, _) ->
    {stop_and_reply, oracle:decode(Reason), [A || {reply, _, _} = A <- actions(Actions, From)]};
result([Class, Reason], _, _) -> oracle:raise(Class, oracle:decode(Reason));
result([bad], _, _) -> bad.

actions(Actions, From) -> lists:append([action(A, From) || A <- Actions]).

action([postpone], _) -> [postpone];
action([hibernate], _) -> [hibernate];
action([next_event, Type, Content], _) -> [{next_event, kind(Type), {act, Content}}];
action([timeout, Ms, Content], _) -> [{timeout, Ms, {act, Content}}];
action([state_timeout, Ms, Content], _) -> [{state_timeout, Ms, {act, Content}}];
action([named, Name, Ms, Content], _) -> [{{timeout, Name}, Ms, {act, Content}}];
action([cancel, Which], _) -> [{kind(Which), cancel}];
action([update, Which, Content], _) -> [{kind(Which), update, {act, Content}}];
action([reply, self, _], none) -> [];
action([reply, self, X], From) -> [{reply, From, X}];
action([reply, Key, X], _) ->
    case get(kept) of #{Key := From} -> [{reply, From, X}]; _ -> [] end;
action([bad], _) -> [bad].

kind([timeout, Name]) -> {timeout, Name};
kind(Kind) -> Kind.
