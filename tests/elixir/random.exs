# Performs random programs of tests/elixir/random_programs.py as performer.py does on the runtime: `elixir random.exs FILE`.

:logger.set_primary_config(:level, :none)

Code.require_file("show.exs", __DIR__)

defmodule Perform do
  import Show

  def caught(f) do
    try do
      {:ok, f.()}
    catch
      :exit, {reason, {_m, _f, _a}} -> {:exit, plain(reason), :call}
      :exit, reason -> {:exit, plain(reason)}
      :error, _ -> :error
      :throw, e -> {:throw, e}
    end
  end
  def plain({r, s}) when is_list(s), do: {r, :stack}
  def plain(r), do: r

  def program(ops) do
    me = self()
    {pid, ref} = spawn_monitor(fn -> driver(me, ops) end)
    collect(pid, ref, [])
  end
  defp collect(pid, ref, lines) do
    receive do
      {:line, ^pid, line} -> collect(pid, ref, [line | lines])
      {:DOWN, ^ref, _, _, reason} -> Enum.reverse(["down " <> end_of(reason) | lines])
    after
      60_000 -> Process.exit(pid, :kill); Enum.reverse(["STUCK" | lines])
    end
  end
  defp end_of({_, stack}) when is_list(stack), do: "crash"
  defp end_of({_, {m, f, a}}) when is_atom(m) and is_atom(f) and is_list(a), do: "call"
  defp end_of(reason) when is_atom(reason), do: Atom.to_string(reason)
  defp end_of(_), do: "other"

  defp driver(runner, ops) do
    names = :ets.new(:names, [:public])
    counts = :ets.new(:counts, [:public])
    Process.put(:names, names)
    Process.put(:counts, counts)
    n = System.unique_integer([:positive])
    for {key, kind} <- [u: :unique, d: :duplicate] do
      name = :"#{key}#{n}"
      {:ok, _} = Registry.start_link(keys: kind, name: name)
      Process.put(key, name)
    end
    :ets.insert(names, {self(), "driver"})
    for op <- ops do
      result = op(term(op))
      send(runner, {:line, self(), show(hd(op)) <> " " <> show(result)})
      Process.sleep(10)
    end
  end

  defp term(%{t: items}), do: List.to_tuple(term(items))
  defp term(items) when is_list(items), do: Enum.map(items, &term/1)
  defp term(other), do: other

  defp worker(id, f), do: (pid = Process.get({:worker, id}); send(pid, {:do, self(), f}); receive(do: ({:did, ^pid, r} -> r)))
  defp work(names), do: (Process.put(:names, names); work())
  defp work do
    receive do
      {:do, from, f} -> send(from, {:did, self(), f.()}); work()
      {:end, reason} -> exit(reason)
      {:got, _} -> work()
    end
  end

  defp shown({:ok, {:error, reason}}), do: {:ok, {:error, plain(reason)}}
  defp shown(other), do: other

  defp with_child(id, f) do
    case :ets.lookup(Process.get(:counts), {:pid, id}) do
      [{_, pid}] -> f.(pid)
      [] -> :none
    end
  end

  def child(names, counts, id, kinds) do
    n = :ets.update_counter(counts, id, 1, {id, 0})
    case Enum.at(kinds, min(n, length(kinds)) - 1) do
      ok when ok in [:ok, :info, :trap] ->
        pid = spawn_link(fn -> ok == :trap and Process.flag(:trap_exit, true); work(names) end)
        :ets.insert(names, {pid, "#{id}.#{n}"})
        :ets.insert(counts, {{:pid, id}, pid})
        if ok == :info, do: {:ok, pid, :info}, else: {:ok, pid}
      :ignore -> :ignore
      :error -> {:error, :why}
      :bad -> :bad
      :raise -> :erlang.error(:why)
      :exit -> exit(:why)
      :throw -> throw(:why)
    end
  end

  # ---- Registry
  defp op([:worker, id]) do
    names = Process.get(:names)
    pid = spawn(fn -> work(names) end)
    :ets.insert(names, {pid, Atom.to_string(id)})
    Process.put({:worker, id}, pid)
    pid
  end
  defp op([:reg, w, r, k, v]), do: (r = Process.get(r); worker(w, fn -> with({:ok, _} <- Registry.register(r, k, v), do: :ok) end))
  defp op([:unreg, w, r, k]), do: (r = Process.get(r); worker(w, fn -> Registry.unregister(r, k) end))
  defp op([:unreg_match, w, r, k, v]), do: (r = Process.get(r); worker(w, fn -> Registry.unregister_match(r, k, v) end))
  defp op([:update, w, k]), do: (r = Process.get(:u); worker(w, fn -> Registry.update_value(r, k, fn v -> {:new, v} end) end))
  defp op([:lookup, r, k]), do: Registry.lookup(Process.get(r), k)
  defp op([:keys, r, w]), do: Registry.keys(Process.get(r), Process.get({:worker, w})) |> Enum.map(&show/1) |> Enum.sort()
  defp op([:values, r, k, w]), do: Registry.values(Process.get(r), k, Process.get({:worker, w}))
  defp op([:count, r]), do: Registry.count(Process.get(r))
  defp op([:match, r, k, v]), do: Registry.match(Process.get(r), k, v)
  defp op([:count_match, r, k, v]), do: Registry.count_match(Process.get(r), k, v)
  defp op([:select, r]), do: Registry.select(Process.get(r), [{{:"$1", :"$2", :"$3"}, [], [{{:"$1", :"$2", :"$3"}}]}]) |> Enum.map(&show/1) |> Enum.sort()
  defp op([:dispatch, r, k]), do: (me = self(); Registry.dispatch(Process.get(r), k, fn entries -> send(me, {:entries, entries}) end); receive(do: ({:entries, e} -> e), after: (0 -> :none)))
  defp op([:whereis, k]), do: Registry.whereis_name({Process.get(:u), k})
  defp op([:rsend, k]), do: caught(fn -> Registry.send({Process.get(:u), k}, {:got, 1}) end)
  defp op([:end, w, :kill]), do: (Process.exit(Process.get({:worker, w}), :kill); :ok)
  defp op([:end, w, reason]), do: (send(Process.get({:worker, w}), {:end, reason}); :ok)

  # ---- DynamicSupervisor
  defp op([:sup, max_children, max_restarts]) do
    options = if is_integer(max_children), do: [max_children: max_children], else: []
    {:ok, sup} = DynamicSupervisor.start_link([strategy: :one_for_one, max_restarts: max_restarts, max_seconds: 60] ++ options)
    :ets.insert(Process.get(:names), {sup, "sup"})
    Process.put(:sup, sup)
    :ok
  end
  defp op([:start, id, kinds, restart]) do
    spec = %{id: id, start: {__MODULE__, :child, [Process.get(:names), Process.get(:counts), id, kinds]}, restart: restart}
    shown(caught(fn -> DynamicSupervisor.start_child(Process.get(:sup), spec) end))
  end
  defp op([:stop_child, id, :kill]), do: with_child(id, fn pid -> Process.exit(pid, :kill); :ok end)
  defp op([:stop_child, id, reason]), do: with_child(id, fn pid -> send(pid, {:end, reason}); :ok end)
  defp op([:terminate, id]), do: with_child(id, fn pid -> caught(fn -> DynamicSupervisor.terminate_child(Process.get(:sup), pid) end) end)
  defp op([:children]), do: caught(fn -> DynamicSupervisor.count_children(Process.get(:sup)) end)
  defp op([:which]), do: caught(fn -> DynamicSupervisor.which_children(Process.get(:sup)) |> Enum.map(fn {i, p, t, _} -> show({i, p, t}) end) |> Enum.sort() end)

  # ---- Task
  defp op([:trap, flag]), do: Process.flag(:trap_exit, flag)
  defp op([:tasks]) do
    {:ok, sup} = Task.Supervisor.start_link()
    Process.put(:tasks, sup)
    :ok
  end
  defp op([:task, id, how, body]) do
    names = Process.get(:names)
    f = fn -> Process.put(:names, names); body(body) end
    task = case how do
      :plain -> Task.async(f)
      :sup -> Task.Supervisor.async(Process.get(:tasks), f)
      :nolink -> Task.Supervisor.async_nolink(Process.get(:tasks), f)
    end
    :ets.insert(names, {task.pid, Atom.to_string(id)})
    Process.put({:task, id}, task)
    :ok
  end
  defp op([:await, id, timeout]), do: caught(fn -> Task.await(Process.get({:task, id}), timeout) end)
  defp op([:yield, id, timeout]), do: caught(fn -> Task.yield(Process.get({:task, id}), timeout) |> result() end)
  defp op([:shutdown, id, timeout]), do: caught(fn -> Task.shutdown(Process.get({:task, id}), timeout) |> result() end)
  defp op([:ignore, id]), do: caught(fn -> Task.ignore(Process.get({:task, id})) |> result() end)
  defp op([:await_many, ids, timeout]), do: caught(fn -> Task.await_many(Enum.map(ids, &Process.get({:task, &1})), timeout) end)
  defp op([:yield_many, ids, timeout]), do: caught(fn -> Task.yield_many(Enum.map(ids, &Process.get({:task, &1})), timeout) |> Enum.map(fn {t, r} -> {t, result(r)} end) end)
  defp op([:stream, inputs, options]) do
    options = Enum.map(options, &List.to_tuple/1)
    caught(fn -> Task.async_stream(inputs, &item/1, options) |> Enum.map(&result/1) end)
  end
  defp op([:sup_children]), do: caught(fn -> Task.Supervisor.children(Process.get(:tasks)) |> Enum.map(&show/1) |> Enum.sort() end)
  defp op([:mail]), do: (receive do m -> [message(m) | op([:mail])] after 5 -> [] end)

  defp message({:EXIT, pid, reason}), do: {:EXIT, pid, plain(reason)}
  defp message({:DOWN, _, _, pid, reason}), do: {:DOWN, pid, plain(reason)}
  defp message({ref, value}) when is_reference(ref), do: {:ref, value}
  defp message(other), do: other

  defp result({:exit, reason}), do: {:exit, plain(reason)}
  defp result(other), do: other

  defp body([:value, v]), do: v
  defp body([:after, ms, b]), do: (Process.sleep(ms); body(b))
  defp body([:trap, b]), do: (Process.flag(:trap_exit, true); body(b))
  defp body([:exit, r]), do: exit(r)
  defp body([:raise]), do: :erlang.error(:why)
  defp body([:throw]), do: throw(:why)
  defp body([:hold]), do: receive(do: (:never -> 1))

  defp item(n) when is_integer(n), do: (Process.sleep(n); n)
  defp item(reason), do: exit(reason)
end

[file] = System.argv()
{:ok, programs} = :file.consult(file)

programs
|> Task.async_stream(fn {name, ops} -> {name, Perform.program(ops)} end, max_concurrency: 8, timeout: 90_000)
|> Enum.each(fn {:ok, {name, lines}} -> IO.puts(Enum.join([Atom.to_string(name) | lines], "\t")) end)
