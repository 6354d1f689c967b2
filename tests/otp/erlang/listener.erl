%% A gen_event handler that does what events say: see tests/otp/listener.py, its twin.
-module(listener).
-behaviour(gen_event).
-export([init/1, handle_event/2, handle_call/2, handle_info/2, terminate/2]).

init({#{id := Id} = Spec, Last}) -> oracle:log(added, [Id, {term, Last}]), start(Spec);
init(#{id := Id} = Spec) -> oracle:log(added, [Id]), start(Spec).

start(Spec) ->
    case maps:get(init, Spec, ok) of
        ok -> {ok, Spec};
        hibernate -> {ok, Spec, hibernate};
        ['return', Term] -> oracle:decode(Term);
        [Class, Reason] -> oracle:raise(Class, oracle:decode(Reason))
    end.

handle_event(Event, Spec) -> hear(event, Event, Spec).

handle_info(Message, Spec) -> hear(info, Message, Spec).

hear(Kind, {act, [Who, [Name | _] = Act]}, #{id := Id} = Spec) when Who == Id; Who == all ->
    oracle:log(hear, [Kind, Id, Name]),
    case Act of
        [ok] -> {ok, Spec};
        [hibernate] -> {ok, Spec, hibernate};
        [remove] -> remove_handler;
        [swap, Argument, #{id := New} = NewSpec] -> {swap_handler, Argument, Spec, {?MODULE, New}, NewSpec};
        [bad] -> bad;
        [Class, Reason] -> oracle:raise(Class, oracle:decode(Reason))
    end;
hear(_, {act, _}, Spec) -> {ok, Spec};
hear(Kind, Other, #{id := Id} = Spec) -> oracle:log(hear, [Kind, Id, {term, Other}]), {ok, Spec}.

handle_call({act, [Name | _] = Act}, #{id := Id} = Spec) ->
    oracle:log(hear, [call, Id, Name]),
    case Act of
        [ok] -> {ok, {answer, Id}, Spec};
        [hibernate] -> {ok, {answer, Id}, Spec, hibernate};
        [remove] -> {remove_handler, removed};
        [swap, Argument, #{id := New} = NewSpec] -> {swap_handler, swapped, Argument, Spec, {?MODULE, New}, NewSpec};
        [bad] -> bad;
        [Class, Reason] -> oracle:raise(Class, oracle:decode(Reason))
    end.

terminate(Argument, #{id := Id} = Spec) ->
    oracle:log(gone, [Id, {term, Argument}]),
    case maps:get(terminate, Spec, ok) of
        ok -> {last, Id};
        [Class, Reason] -> oracle:raise(Class, oracle:decode(Reason))
    end.
