# A term as text, as `show` in program.py has it. A process with a table `:names` shows pids by their names in it.

defmodule Show do
  def show(nil), do: "nil"
  def show(t) when is_atom(t), do: Atom.to_string(t) |> String.replace_prefix("Elixir.", "")
  def show(t) when is_integer(t), do: Integer.to_string(t)
  def show(t) when is_binary(t), do: t
  def show(t) when is_list(t), do: "[" <> Enum.map_join(t, ", ", &show/1) <> "]"
  def show(t) when is_tuple(t), do: "{" <> Enum.map_join(Tuple.to_list(t), ", ", &show/1) <> "}"
  def show(t) when is_pid(t), do: with(names when names != nil <- Process.get(:names), [{_, name}] <- :ets.lookup(names, t), do: name, else: (_ -> "pid"))
  def show(t) when is_reference(t), do: "ref"
  def show(t) when is_function(t), do: "fn"
  def show(%Task{pid: pid}), do: if(Process.get(:names), do: show(pid), else: "task")
  def show(t) when is_exception(t), do: "exception"
  def show(t) when is_map(t), do: "%{" <> Enum.map_join(Enum.sort(Map.to_list(t)), ", ", fn {k, v} -> show(k) <> ": " <> show(v) end) <> "}"
end
