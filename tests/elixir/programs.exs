# Small programs that print what Elixir does; tests/elixir/programs.py has the same ones for the runtime.

:logger.set_primary_config(:level, :none)

Code.require_file("show.exs", __DIR__)

defmodule Echo do
  use GenServer
  def start_link(arg), do: GenServer.start_link(__MODULE__, arg)
  def start_two(extra, arg), do: GenServer.start_link(__MODULE__, {extra, arg})
  def start_info(arg), do: GenServer.start_link(__MODULE__, arg) |> Tuple.append(:info)
  def init(:ignore), do: :ignore
  def init({:stop, reason}), do: {:stop, reason}
  def init({:raise, reason}), do: :erlang.error(reason)
  def init({:exit, reason}), do: exit(reason)
  def init({:throw, reason}), do: throw(reason)
  def init(:bad), do: :bad
  def init(arg), do: {:ok, arg}
  def handle_call(:get, _, s), do: {:reply, s, s}
  def handle_call(:self, _, s), do: {:reply, self(), s}
  def handle_cast({:stop, reason}, s), do: {:stop, reason, s}
  def handle_info({:tell, pid}, s), do: (send(pid, {:told, s}); {:noreply, s})
  def handle_info(_, s), do: {:noreply, s}
end

defmodule Programs do
  def mail(ms \\ 30), do: (receive do m -> [m | mail(ms)] after ms -> [] end)
  def end_of(pid), do: (ref = Process.monitor(pid); receive do {:DOWN, ^ref, _, _, r} -> r after 1000 -> :alive end)
  # reason of what a body raises, without stacks and call sites
  def caught(f) do
    try do
      {:ok, f.()}
    catch
      :exit, {reason, {_m, _f, _a}} -> {:exit, plain(reason), :call}
      :exit, reason -> {:exit, plain(reason)}
      :error, e -> {:error, if(is_exception(e), do: e.__struct__, else: e)}
      :throw, e -> {:throw, e}
    end
  end
  def plain({r, s}) when is_list(s), do: {r, :stack}
  def plain({:nocatch, r}), do: {:nocatch, r}
  def plain(r), do: r
  def hold, do: receive(do: (:go -> :went))

  # ---- Agent
  def agent_get_update do
    {:ok, a} = Agent.start_link(fn -> 1 end)
    [Agent.get(a, &(&1 + 1)), Agent.update(a, &(&1 * 10)), Agent.get_and_update(a, &{&1, &1 + 1}), Agent.cast(a, &(&1 + 5)), Agent.get(a, & &1)]
  end
  def agent_raise_in_get do
    {:ok, a} = Agent.start(fn -> 1 end)
    [caught(fn -> Agent.get(a, fn _ -> exit(:boom) end) end), end_of(a)]
  end
  def agent_bad_get_and_update do
    {:ok, a} = Agent.start(fn -> 1 end)
    caught(fn -> Agent.get_and_update(a, fn _ -> 7 end) end)
  end
  def agent_timeout do
    {:ok, a} = Agent.start(fn -> 1 end)
    caught(fn -> Agent.get(a, fn _ -> Process.sleep(100) end, 10) end)
  end
  def agent_start_errors do
    Process.flag(:trap_exit, true)
    [Agent.start_link(fn -> exit(:boom) end), elem(Agent.start(fn -> throw(:boom) end), 0), Agent.start(fn -> 1 end, name: :named_agent) |> elem(0),
     Agent.start(fn -> 2 end, name: :named_agent) |> elem(1) |> elem(0)]
  end
  def agent_stop do
    {:ok, a} = Agent.start(fn -> 1 end)
    {:ok, b} = Agent.start(fn -> 1 end)
    [Agent.stop(a), end_of(a), caught(fn -> Agent.stop(b, :other) end), end_of(b), caught(fn -> Agent.get(a, & &1) end), caught(fn -> Agent.stop(a) end)]
  end
  def agent_start_timeout, do: Agent.start(fn -> Process.sleep(500) end, timeout: 20)
  def agent_args do
    {:ok, a} = Agent.start_link(Kernel, :+, [1, 2])
    [Agent.get(a, Kernel, :+, [10]), Agent.update(a, Kernel, :*, [4]), Agent.get(a, & &1)]
  end

  # ---- Task
  def task_await do
    t = Task.async(fn -> 42 end)
    [Task.await(t), mail()]
  end
  def task_exit_not_trapping do
    {pid, ref} = spawn_monitor(fn -> t = Task.async(fn -> exit(:boom) end); Task.await(t) end)
    receive do {:DOWN, ^ref, _, ^pid, r} -> r end
  end
  def task_await_exit_trapping do
    Process.flag(:trap_exit, true)
    t = Task.async(fn -> exit(:boom) end)
    [caught(fn -> Task.await(t) end), mail()]
  end
  def task_await_timeout do
    t = Task.async(fn -> Process.sleep(60); 1 end)
    [caught(fn -> Task.await(t, 10) end), mail(100)]
  end
  def task_await_normal do
    t = Task.async(fn -> exit(:normal) end)
    caught(fn -> Task.await(t) end)
  end
  def task_yield do
    t = Task.async(fn -> Process.sleep(50); :done end)
    [Task.yield(t, 0), Task.yield(t, 1000), caught(fn -> Task.yield(t, 0) end)]
  end
  def task_yield_exit do
    Process.flag(:trap_exit, true)
    t = Task.async(fn -> exit(:boom) end)
    [Task.yield(t), length(mail())]
  end
  def task_shutdown_running do
    t = Task.async(fn -> hold() end)
    [Task.shutdown(t), Process.alive?(t.pid), mail()]
  end
  def task_shutdown_brutal do
    t = Task.async(fn -> Process.flag(:trap_exit, true); hold() end)
    Process.sleep(20)
    [Task.shutdown(t, :brutal_kill), mail()]
  end
  def task_shutdown_done do
    t = Task.async(fn -> 5 end)
    Process.sleep(20)
    [Task.shutdown(t), mail()]
  end
  def task_shutdown_exited do
    Process.flag(:trap_exit, true)
    t = Task.async(fn -> exit(:boom) end)
    Process.sleep(20)
    [Task.shutdown(t), mail()]
  end
  def task_shutdown_timeout do
    t = Task.async(fn -> Process.flag(:trap_exit, true); receive(do: (:never -> 1)) end)
    Process.sleep(20)
    [Task.shutdown(t, 20), mail()]
  end
  def task_shutdown_trapping_answers do
    t = Task.async(fn -> Process.flag(:trap_exit, true); receive do {:EXIT, _, :shutdown} -> :bye end end)
    Process.sleep(20)
    [Task.shutdown(t, 500), mail()]
  end
  def task_shutdown_noconnection_like do
    t = Task.async(fn -> Process.flag(:trap_exit, true); receive do {:EXIT, _, :shutdown} -> exit(:other) end end)
    Process.flag(:trap_exit, true)
    Process.sleep(20)
    [Task.shutdown(t, 500), mail()]
  end
  def task_ignore do
    a = Task.async(fn -> hold() end)
    b = Task.async(fn -> 3 end)
    Process.sleep(20)
    [Task.ignore(a), Task.ignore(b), Process.alive?(a.pid), (send(a.pid, :go); mail())]
  end
  def task_ignore_exit do
    Process.flag(:trap_exit, true)
    t = Task.async(fn -> exit(:boom) end)
    Process.sleep(20)
    [Task.ignore(t), mail()]
  end
  def task_await_many do
    [Task.await_many(for i <- 1..3, do: Task.async(fn -> Process.sleep(30 - i * 8); i end)), Task.await_many([]), mail()]
  end
  def task_await_many_exit do
    Process.flag(:trap_exit, true)
    ts = [Task.async(fn -> hold() end), Task.async(fn -> exit(:boom) end)]
    caught(fn -> Task.await_many(ts) end)
  end
  def task_await_many_timeout do
    Process.flag(:trap_exit, true)
    caught(fn -> Task.await_many([Task.async(fn -> 1 end), Task.async(fn -> hold() end)], 20) end)
  end
  def task_yield_many do
    Process.flag(:trap_exit, true)
    ts = [Task.async(fn -> 1 end), Task.async(fn -> exit(:boom) end), Task.async(fn -> hold() end)]
    for {_, r} <- Task.yield_many(ts, 50), do: r
  end
  def task_not_owner do
    t = Task.async(fn -> hold() end)
    me = self()
    spawn(fn -> send(me, {:result, caught(fn -> Task.await(t) end)}) end)
    receive do {:result, r} -> elem(r, 0) end
  end
  def task_callers do
    me = self()
    tell = fn what -> send(me, {what, for(p <- Process.get(:"$callers", []), do: p == me), length(Process.get(:"$ancestors", []))}) end
    {:ok, sup} = Task.Supervisor.start_link()
    Task.await(Task.async(fn -> tell.(:async) end))
    {:ok, _} = Task.start(fn -> tell.(:start) end)
    Process.sleep(20)
    {:ok, _} = Task.start_link(fn -> tell.(:start_link) end)
    Process.sleep(20)
    {:ok, _} = Task.Supervisor.start_child(sup, fn -> tell.(:start_child) end)
    Process.sleep(20)
    Task.await(Task.Supervisor.async(sup, fn -> tell.(:sup_async) end))
    Task.await(Task.async(fn -> Task.await(Task.async(fn -> send(me, {:nested, length(Process.get(:"$callers"))}) end)) end))
    mail()
  end
  def task_nodedown do
    Process.flag(:trap_exit, true)
    lost = fn -> t = Task.async(fn -> exit(:noconnection) end); Process.sleep(20); t end
    [caught(fn -> Task.await(lost.()) end), caught(fn -> Task.await_many([lost.()]) end), caught(fn -> Task.yield(lost.()) end),
     caught(fn -> Task.yield_many([lost.()]) end), caught(fn -> Task.shutdown(lost.()) end), caught(fn -> Task.ignore(lost.()) end)]
  end
  def task_start_link_crash do
    Process.flag(:trap_exit, true)
    {:ok, p} = Task.start_link(fn -> exit(:boom) end)
    receive do {:EXIT, ^p, r} -> r end
  end
  def task_async_stream do
    [Enum.to_list(Task.async_stream(1..4, fn i -> Process.sleep(40 - i * 9); i end)),
     Enum.to_list(Task.async_stream([3, 1, 2], fn i -> Process.sleep(i * 30); i end, ordered: false, max_concurrency: 3)), mail()]
  end
  def task_async_stream_exit do
    Process.flag(:trap_exit, true)
    [Enum.to_list(Task.async_stream([1, 2], fn i -> if i == 1, do: exit(:boom), else: i end)),
     Enum.to_list(Task.async_stream([1, 2], fn i -> if i == 1, do: exit(:boom), else: i end, zip_input_on_exit: true)), mail()]
  end
  def task_async_stream_timeout do
    [Enum.to_list(Task.async_stream([1, 200], fn i -> Process.sleep(i); i end, timeout: 60, on_timeout: :kill_task)),
     Enum.to_list(Task.async_stream([1, 200], fn i -> Process.sleep(i); i end, timeout: 60, on_timeout: :kill_task, zip_input_on_exit: true)), mail()]
  end
  def task_async_stream_timeout_exit do
    Process.flag(:trap_exit, true)
    r = caught(fn -> Enum.to_list(Task.async_stream([200], fn i -> Process.sleep(i); i end, timeout: 20)) end)
    [r, mail()]
  end
  def task_async_stream_concurrency do
    me = self()
    stream = Task.async_stream(1..6, fn i -> send(me, {:began, i}); Process.sleep(10); i end, max_concurrency: 2)
    [Enum.take(stream, 2), length(for {:began, _} = m <- mail(), do: m) <= 4]
  end
  def task_async_stream_halted do
    Process.flag(:trap_exit, true)
    [Enum.take(Task.async_stream([1, 2, 3], fn i -> (if i > 1, do: hold()); i end), 1), mail()]
  end
  def task_async_stream_raise_not_trapping do
    {pid, ref} = spawn_monitor(fn -> Enum.to_list(Task.async_stream([1], fn _ -> exit(:boom) end)) end)
    receive do {:DOWN, ^ref, _, ^pid, r} -> r end
  end
  def task_completed do
    t = Task.completed(7)
    [t.pid, Task.await(t), mail()]
  end

  # ---- Task.Supervisor
  def sup_async_nolink do
    {:ok, sup} = Task.Supervisor.start_link()
    t = Task.Supervisor.async_nolink(sup, fn -> exit(:boom) end)
    r = receive do {:DOWN, ref, _, _, reason} -> {ref == t.ref, reason} end
    [r, Task.await(Task.Supervisor.async_nolink(sup, fn -> 1 end)), mail()]
  end
  def sup_children do
    {:ok, sup} = Task.Supervisor.start_link()
    {:ok, p} = Task.Supervisor.start_child(sup, fn -> hold() end)
    [Task.Supervisor.children(sup) == [p], Task.Supervisor.terminate_child(sup, p), Task.Supervisor.terminate_child(sup, p), Task.Supervisor.children(sup), end_of(p)]
  end
  def sup_max_children do
    {:ok, sup} = Task.Supervisor.start_link(max_children: 1)
    {:ok, _} = Task.Supervisor.start_child(sup, fn -> hold() end)
    [Task.Supervisor.start_child(sup, fn -> 1 end), caught(fn -> Task.Supervisor.async_nolink(sup, fn -> 1 end) end) |> elem(0)]
  end
  def sup_stream_nolink do
    {:ok, sup} = Task.Supervisor.start_link()
    Enum.to_list(Task.Supervisor.async_stream_nolink(sup, [1, 2, 3], fn i -> if i == 2, do: exit(:boom), else: i end))
  end
  def sup_restart do
    {:ok, sup} = Task.Supervisor.start_link()
    me = self()
    {:ok, _} = Task.Supervisor.start_child(sup, fn -> send(me, :ran); hold(); exit(:boom) end, restart: :transient)
    receive do :ran -> :ok end
    [p] = Task.Supervisor.children(sup)
    send(p, :go)
    r = receive do :ran -> :ran_again after 500 -> :not end
    r
  end
  def sup_stop_ends_tasks do
    {:ok, sup} = Task.Supervisor.start_link()
    {:ok, p} = Task.Supervisor.start_child(sup, fn -> hold() end)
    {:ok, q} = Task.Supervisor.start_child(sup, fn -> Process.flag(:trap_exit, true); hold() end, shutdown: :brutal_kill)
    Process.sleep(20)
    rp = Process.monitor(p)
    rq = Process.monitor(q)
    Supervisor.stop(sup)
    [(receive do {:DOWN, ^rp, _, _, r} -> r end), (receive do {:DOWN, ^rq, _, _, r} -> r end)]
  end

  # ---- DynamicSupervisor
  def spec(arg, opts \\ []), do: Map.merge(%{id: :echo, start: {Echo, :start_link, [arg]}}, Map.new(opts))
  def dyn_start_child_results do
    Process.flag(:trap_exit, true)
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one)
    start = fn s -> case DynamicSupervisor.start_child(sup, s) do {:error, {r, st}} when is_list(st) -> {:error, {r, :stack}}; {:error, {{:EXIT, {r, st}}, _}} when is_list(st) -> {:error, {:EXIT, r, :stack}}; x -> x end end
    [start.(spec(1)), start.(spec(:ignore)), start.(spec({:stop, :why})), start.(spec({:exit, :why})), start.(spec(:bad)),
     start.(spec({:raise, :why})), start.(spec(1, start: {Echo, :start_info, [1]})), DynamicSupervisor.count_children(sup)]
  end
  def dyn_raising_start do
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one)
    start = fn s -> case DynamicSupervisor.start_child(sup, s) do {:error, {r, st}} when is_list(st) -> {:error, {r, :stack}}; x -> x end end
    [start.(spec(1, start: {:erlang, :exit, [:why]})), start.(spec(1, start: {:erlang, :error, [:why]})), start.(spec(1, start: {:erlang, :throw, [:why]}) ) |> elem(0),
     start.(spec(1, start: {Kernel, :+, [1, 1]}))]
  end
  def dyn_bad_specs do
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one)
    for s <- [spec(1, restart: :never), spec(1, shutdown: -1), spec(1, significant: :maybe), spec(1, modules: 7)], do: DynamicSupervisor.start_child(sup, s)
  end
  def dyn_max_children do
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one, max_children: 1)
    [DynamicSupervisor.start_child(sup, spec(1)) |> elem(0), DynamicSupervisor.start_child(sup, spec(1))]
  end
  def dyn_extra_arguments do
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one, extra_arguments: [:first])
    {:ok, p} = DynamicSupervisor.start_child(sup, spec(1, start: {Echo, :start_two, [:second]}))
    GenServer.call(p, :get)
  end
  def dyn_terminate_child do
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one)
    {:ok, p} = DynamicSupervisor.start_child(sup, spec(1))
    ref = Process.monitor(p)
    [DynamicSupervisor.terminate_child(sup, p), DynamicSupervisor.terminate_child(sup, p), DynamicSupervisor.terminate_child(sup, self()),
     (receive do {:DOWN, ^ref, _, _, r} -> r end), DynamicSupervisor.which_children(sup)]
  end
  def dyn_which_children do
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one)
    {:ok, _} = DynamicSupervisor.start_child(sup, spec(1))
    {:ok, _} = DynamicSupervisor.start_child(sup, spec(1, type: :supervisor, modules: :dynamic))
    [DynamicSupervisor.which_children(sup) |> Enum.map(fn {a, b, c, d} -> {a, b, c, d == :dynamic} end) |> Enum.sort, DynamicSupervisor.count_children(sup)]
  end
  def dyn_restart_and_give_up do
    Process.flag(:trap_exit, true)
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one, max_restarts: 1, max_seconds: 60)
    {:ok, p} = DynamicSupervisor.start_child(sup, spec(1))
    Process.exit(p, :kill)
    Process.sleep(30)
    [{_, q, _, _}] = DynamicSupervisor.which_children(sup)
    a = p != q
    Process.exit(q, :kill)
    [a, (receive do {:EXIT, ^sup, r} -> r end)]
  end
  def dyn_temporary_transient do
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one)
    {:ok, a} = DynamicSupervisor.start_child(sup, spec(1, restart: :temporary))
    {:ok, b} = DynamicSupervisor.start_child(sup, spec(1, restart: :transient))
    Process.exit(a, :kill)
    GenServer.cast(b, {:stop, {:shutdown, 1}})
    Process.sleep(30)
    DynamicSupervisor.count_children(sup)
  end
  def dyn_bad_init do
    Process.flag(:trap_exit, true)
    for opts <- [[max_children: -1], [max_restarts: -1], [max_seconds: 0], [extra_arguments: 1]], do: DynamicSupervisor.start_link([strategy: :one_for_one] ++ opts)
  end
  def dyn_stop do
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one)
    {:ok, p} = DynamicSupervisor.start_child(sup, spec(1))
    ref = Process.monitor(p)
    [DynamicSupervisor.stop(sup), (receive do {:DOWN, ^ref, _, _, r} -> r end), caught(fn -> DynamicSupervisor.which_children(sup) end)]
  end

  # ---- PartitionSupervisor
  def part_basics do
    {:ok, _} = PartitionSupervisor.start_link(child_spec: Echo.child_spec(:x), name: :parts, partitions: 3)
    pid = fn key -> GenServer.call({:via, PartitionSupervisor, {:parts, key}}, :self) end
    [PartitionSupervisor.partitions(:parts), PartitionSupervisor.count_children(:parts), pid.(1) == pid.(4), pid.(1) == pid.(2), pid.(-1) == pid.(1), pid.(:a) == pid.(:a),
     PartitionSupervisor.which_children(:parts) |> Enum.map(fn {id, p, t, m} -> {id, p, t, m} end) |> Enum.sort |> Enum.map(&Tuple.delete_at(&1, 3)),
     PartitionSupervisor.stop(:parts)]
  end
  def part_with_arguments do
    {:ok, _} = PartitionSupervisor.start_link(child_spec: Echo.child_spec(:x), name: :parts2, partitions: 2, with_arguments: fn [a], n -> [{a, n}] end)
    for key <- 0..1, do: GenServer.call({:via, PartitionSupervisor, {:parts2, key}}, :get)
  end
  def part_missing, do: caught(fn -> GenServer.call({:via, PartitionSupervisor, {:nobody, 1}}, :get) end) |> elem(0)
  def part_restart do
    {:ok, _} = PartitionSupervisor.start_link(child_spec: Echo.child_spec(:x), name: :parts3, partitions: 2)
    a = GenServer.call({:via, PartitionSupervisor, {:parts3, 1}}, :self)
    Process.exit(a, :kill)
    Process.sleep(30)
    a != GenServer.call({:via, PartitionSupervisor, {:parts3, 1}}, :self)
  end

  # ---- Registry
  def reg_unique do
    {:ok, _} = Registry.start_link(keys: :unique, name: R1)
    me = self()
    other = spawn(fn -> Registry.register(R1, :b, 2); send(me, :ready); hold() end)
    receive do :ready -> :ok end
    [Registry.register(R1, :a, 1) |> elem(0), Registry.register(R1, :a, 1), Registry.register(R1, :b, 1), Registry.lookup(R1, :a), Registry.lookup(R1, :c), Registry.keys(R1, me),
     Registry.count(R1), Registry.update_value(R1, :a, &(&1 + 1)), Registry.update_value(R1, :b, &(&1 + 1)), Registry.values(R1, :a, me), Registry.unregister(R1, :a), Registry.unregister(R1, :zz), Registry.lookup(R1, :a),
     (send(other, :go); Process.sleep(30); Registry.lookup(R1, :b)), Registry.count(R1)]
  end
  def reg_duplicate do
    {:ok, _} = Registry.start_link(keys: :duplicate, name: R2)
    for v <- [1, 2, 3], do: Registry.register(R2, :k, {v, :x})
    Registry.register(R2, :j, 9)
    me = self()
    [Registry.lookup(R2, :k), Registry.keys(R2, me) |> Enum.sort, Registry.match(R2, :k, {2, :_}), Registry.count_match(R2, :k, {:_, :x}), Registry.match(R2, :k, {:"$1", :_}, [{:>, :"$1", 1}]),
     Registry.unregister_match(R2, :k, {1, :_}), Registry.values(R2, :k, me), Registry.count(R2), Registry.select(R2, [{{:"$1", :_, :"$2"}, [], [{{:"$1", :"$2"}}]}]) |> Enum.sort, Registry.count_select(R2, [{{:k, :_, :_}, [], [true]}]),
     caught(fn -> Registry.update_value(R2, :k, & &1) end) |> elem(0), Registry.unregister(R2, :k), Registry.lookup(R2, :k), Registry.lookup(R2, :j)]
  end
  def reg_via do
    {:ok, _} = Registry.start_link(keys: :unique, name: R3)
    name = {:via, Registry, {R3, "x"}}
    {:ok, p} = GenServer.start_link(Echo, 1, name: name)
    {:ok, q} = GenServer.start_link(Echo, 2, name: {:via, Registry, {R3, "y", :value}})
    [GenServer.call(name, :get), GenServer.start_link(Echo, 1, name: name) == {:error, {:already_started, p}}, Registry.lookup(R3, "y") == [{q, :value}], Registry.lookup(R3, "x") == [{p, nil}],
     GenServer.whereis(name) == p, GenServer.whereis({:via, Registry, {R3, "none"}}), (GenServer.stop(p); Process.sleep(10); Registry.lookup(R3, "x")),
     caught(fn -> GenServer.call(name, :get) end)]
  end
  def reg_listeners do
    Process.register(self(), :listener)
    {:ok, _} = Registry.start_link(keys: :unique, name: R4, listeners: [:listener])
    Registry.register(R4, :a, 1)
    Registry.unregister(R4, :a)
    spawn(fn -> Registry.register(R4, :b, 2) end)
    Process.sleep(30)
    for m <- mail(), do: Tuple.delete_at(m, 1)
  end
  def reg_meta do
    {:ok, _} = Registry.start_link(keys: :unique, name: R5, meta: [colour: :red])
    [Registry.meta(R5, :colour), Registry.meta(R5, :none), Registry.put_meta(R5, :size, 3), Registry.meta(R5, :size), Registry.delete_meta(R5, :size), Registry.meta(R5, :size)]
  end
  def reg_dispatch do
    {:ok, _} = Registry.start_link(keys: :duplicate, name: R6)
    me = self()
    Registry.register(R6, :k, 1)
    Registry.register(R6, :k, 2)
    [Registry.dispatch(R6, :k, fn entries -> send(me, length(entries)) end), Registry.dispatch(R6, :none, fn _ -> send(me, :called) end), mail()]
  end
  def reg_send do
    {:ok, _} = Registry.start_link(keys: :unique, name: R7)
    Registry.register(R7, :me, 1)
    [Registry.send({R7, :me}, :hello), mail(), caught(fn -> Registry.send({R7, :none}, :hello) end) |> elem(0)]
  end
  def reg_keys_kinds do
    {:ok, _} = Registry.start_link(keys: :unique, name: R8)
    for k <- [1, true, "1", :a, {1, 2}], do: Registry.register(R8, k, k) |> elem(0)
  end
  def reg_bad_options do
    [caught(fn -> Registry.start_link(keys: :other, name: R9) end) |> elem(0), caught(fn -> Registry.start_link(keys: :unique, name: R9, partitions: 0) end) |> elem(0)]
  end

  # ---- Process
  def proc_timers do
    t = Process.send_after(self(), :late, 1000)
    [is_integer(Process.read_timer(t)), is_integer(Process.cancel_timer(t)), Process.cancel_timer(t), Process.read_timer(t),
     Process.cancel_timer(Process.send_after(self(), :x, 1000), info: false),
     Process.cancel_timer(t, async: true), Process.cancel_timer(t, async: true, info: false),
     (case mail() do [{:cancel_timer, _, r}] -> {:cancel_timer, r} end),
     (Process.send_after(self(), :abs, System.monotonic_time(:millisecond) + 10, abs: true); mail(60)),
     (Process.send_after(self(), :past, System.monotonic_time(:millisecond) - 10, abs: true); mail(60))]
  end
  def proc_dictionary do
    [Process.put(:a, 1), Process.put(:a, 2), Process.get(:a), Process.get(:b), Process.get(:b, :default), Process.delete(:a), Process.delete(:a), Process.get_keys(5)]
  end
  def proc_flags do
    [Process.flag(:trap_exit, true), Process.flag(:trap_exit, false), Process.alive?(self())]
  end
  def proc_register do
    p = spawn(fn -> hold() end)
    [Process.register(p, :some_name), caught(fn -> Process.register(self(), :some_name) end), Process.whereis(:some_name) == p, Process.unregister(:some_name), caught(fn -> Process.unregister(:some_name) end),
     Process.whereis(:some_name), caught(fn -> Process.register(self(), nil) end) |> elem(0)]
  end
  def proc_exit_reasons do
    for reason <- [:normal, :shutdown, :kill, :boom] do
      p = spawn(fn -> hold() end)
      Process.exit(p, reason)
      Process.sleep(10)
      if Process.alive?(p), do: :alive, else: :dead
    end
  end
  def proc_info do
    p = spawn(fn -> Process.flag(:trap_exit, true); hold() end)
    Process.sleep(10)
    send(p, :mail)
    Process.sleep(10)
    [Process.info(p, :messages), Process.info(p, [:trap_exit, :message_queue_len]), Process.info(p, :registered_name), Process.info(p, :priority), Process.info(p, :links),
     (Process.exit(p, :kill); Process.sleep(10); Process.info(p, :messages)), caught(fn -> Process.info(self(), :nonsense) end) |> elem(0)]
  end
  def proc_group_leader do
    me = self()
    before = Process.group_leader()
    r = Process.group_leader(me, me)
    spawn(fn -> send(me, {:child, Process.group_leader() == me}) end)
    x = receive do m -> m end
    Process.group_leader(me, before)
    [r, x, caught(fn -> Process.group_leader(me, :nobody) end) |> elem(0)]
  end
  def proc_spawn_monitor do
    {_, ref} = spawn_monitor(fn -> exit(:boom) end)
    [(receive do {:DOWN, ^ref, :process, _, r} -> r end), Process.demonitor(ref, [:info, :flush])]
  end

  # ---- GenServer and Supervisor
  def gen_start_errors do
    Process.flag(:trap_exit, true)
    start = fn arg -> case GenServer.start(Echo, arg) do {:error, {r, s}} when is_list(s) -> {:error, {r, :stack}}; x -> x end end
    for arg <- [1, :ignore, {:stop, :why}, {:exit, :why}, {:raise, :why}, {:throw, :why}, :bad], do: start.(arg)
  end
  def sup_errors do
    Process.flag(:trap_exit, true)
    start = fn children, opts -> Supervisor.start_link(children, [strategy: :one_for_one] ++ opts) end
    [start.([spec(1)], []) |> elem(0), start.([spec({:stop, :why})], []), start.([spec(1), spec(2)], []), start.([], max_restarts: -1), start.([], max_seconds: 0), start.([], auto_shutdown: :sometimes),
     start.([spec(1, restart: :never)], []), start.([spec(1, shutdown: :never)], []), start.([spec(1, type: :thing)], []), start.([spec(1, significant: true, restart: :transient)], [])]
  end
  def sup_children_api do
    {:ok, sup} = Supervisor.start_link([spec(1, id: :a), spec(2, id: :b, restart: :transient)], strategy: :one_for_one)
    [Supervisor.which_children(sup) |> Enum.map(fn {i, p, t, _} -> {i, p, t} end), Supervisor.count_children(sup), Supervisor.terminate_child(sup, :a), Supervisor.terminate_child(sup, :zz), Supervisor.delete_child(sup, :b),
     Supervisor.delete_child(sup, :a), Supervisor.restart_child(sup, :a), Supervisor.start_child(sup, spec(3, id: :b)) |> elem(1) |> elem(0), Supervisor.start_child(sup, spec(:ignore, id: :c)), Supervisor.restart_child(sup, :c), Supervisor.stop(sup)]
  end
end

for {name, 0} <- Programs.__info__(:functions), name not in [:hold, :mail] do
  me = self()
  {pid, ref} = spawn_monitor(fn -> send(me, {:result, apply(Programs, name, [])}) end)
  receive do
    {:result, result} -> IO.puts("#{name}\t#{Show.show(result)}")
    {:DOWN, ^ref, _, ^pid, reason} -> IO.puts("#{name}\tCRASHED #{inspect(reason)}")
  after 20_000 -> IO.puts("#{name}\tSTUCK")
  end
  Process.exit(pid, :kill)
end
