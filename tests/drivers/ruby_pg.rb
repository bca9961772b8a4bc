# Ruby's pg: parameters, prepared statements, transactions, COPY, cancel, LISTEN, and an insert loop.
require "pg"

URL, MODE, SECONDS = ARGV
TABLE = "t_ruby"
$failed = false

def step(name)
  yield
  puts "ok #{name}"
rescue StandardError => error
  $failed = true
  puts "FAILED #{name}"
  warn error.full_message
end

def same(found, wanted)
  raise "found #{found.inspect}, wanted #{wanted.inspect}" unless found == wanted
end

def wants(kind)
  yield
rescue kind
  nil
else
  raise "no #{kind}"
end

def count(c, filter)
  c.exec("SELECT count(*) FROM #{TABLE} WHERE #{filter}").getvalue(0, 0).to_i
end

def steps(c)
  step("parameterised_write") do
    c.exec("DROP TABLE IF EXISTS #{TABLE}")
    c.exec("CREATE TABLE #{TABLE} (id int PRIMARY KEY, name text)")
    20.times { |n| same(c.exec_params("INSERT INTO #{TABLE} VALUES ($1, $2)", [n, "näme #{n}"]).cmd_tuples, 1) }
  end
  step("parameterised_read") do
    20.times do |n|
      same(c.exec_params("SELECT name FROM #{TABLE} WHERE id = $1", [n]).getvalue(0, 0), "näme #{n}")
    end
  end
  step("own_writes_are_read") do
    50.times do |n|
      c.exec_params("UPDATE #{TABLE} SET name = $1 WHERE id = 0", [n.to_s])
      same(c.exec("SELECT name FROM #{TABLE} WHERE id = 0").getvalue(0, 0), n.to_s)
    end
  end
  step("prepared") do
    c.prepare("get", "SELECT name FROM #{TABLE} WHERE id = $1")
    (1...20).each { |n| same(c.exec_prepared("get", [n]).getvalue(0, 0), "näme #{n}") }
    same(c.describe_prepared("get").nfields, 1)
    c.exec("DEALLOCATE get")
    wants(PG::InvalidSqlStatementName) { c.exec_prepared("get", [1]) }
  end
  step("transactions") do
    c.transaction { |tx| tx.exec("INSERT INTO #{TABLE} VALUES (300, 'tx')") }
    wants(PG::UniqueViolation) do
      c.transaction do |tx|
        tx.exec("INSERT INTO #{TABLE} VALUES (301, 'gone')")
        tx.exec("INSERT INTO #{TABLE} VALUES (300, 'twice')")
      end
    end
    c.exec("BEGIN")
    c.exec("DELETE FROM #{TABLE}")
    c.exec("ROLLBACK")
    same(count(c, "id >= 300"), 1)
  end
  step("copy") do
    c.copy_data("COPY #{TABLE} FROM STDIN") { (10_000...30_000).each { |n| c.put_copy_data("#{n}\tcopied\n") } }
    lines = 0
    c.copy_data("COPY #{TABLE} TO STDOUT") { lines += 1 while c.get_copy_data }
    same(lines, 20_021)
    same(c.exec("DELETE FROM #{TABLE} WHERE id >= 10000").cmd_tuples, 20_000)
  end
  step("pipeline") do
    c.enter_pipeline_mode
    10.times { |n| c.send_query_params("SELECT $1::int", [n]) }
    c.pipeline_sync
    found = []
    loop do
      result = c.get_result
      break if result&.result_status == PG::PGRES_PIPELINE_SYNC

      found << result.getvalue(0, 0).to_i if result
    end
    c.exit_pipeline_mode
    same(found, (0...10).to_a)
  end
  step("single_row_mode") do
    c.send_query("SELECT generate_series(1, 1000)")
    c.set_single_row_mode
    sum = 0
    c.get_result.stream_each { |row| sum += row["generate_series"].to_i }
    c.get_last_result
    same(sum, 500_500)
  end
  step("listen_notify") do
    other = PG.connect(URL)
    other.exec("LISTEN ruby_news")
    c.exec("NOTIFY ruby_news, 'hello'")
    heard = nil
    other.wait_for_notify(5) { |_channel, _pid, payload| heard = payload }
    same(heard, "hello")
    other.close
  end
  step("cancel") do
    c.send_query("SELECT pg_sleep(30)")
    sleep 0.3
    same(c.cancel, nil)
    wants(PG::QueryCanceled) { c.get_last_result }
    same(count(c, "id < 20"), 20)
  end
end

def inserts(c)
  c.exec("DROP TABLE IF EXISTS #{TABLE}_loop")
  c.exec("CREATE TABLE #{TABLE}_loop (n int)")
  clock = -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) }
  finish = clock.call + SECONDS.to_f
  acknowledged, errors, longest, n = [], [], 0, 0
  while (asked = clock.call) < finish && errors.size < 20
    n += 1
    begin
      c.exec_params("INSERT INTO #{TABLE}_loop VALUES ($1)", [n])
      acknowledged << n
    rescue PG::Error => error
      errors << error.message.lines.first
    end
    longest = [longest, clock.call - asked].max
  end
  missing = acknowledged - c.exec("SELECT n FROM #{TABLE}_loop").column_values(0).map(&:to_i)
  $failed = !missing.empty? || acknowledged.empty? || errors.size >= 20
  puts "#{$failed ? 'FAILED' : 'ok'} inserts acknowledged=#{acknowledged.size} missing=#{missing.size} " \
       "errors=#{errors.size} longest_ms=#{(longest * 1000).round}"
  errors.each { |error| puts "   error: #{error}" }
end

puts "version #{PG::VERSION}"
c = PG.connect(URL)
MODE == "inserts" ? inserts(c) : steps(c)
c.close
exit($failed ? 1 : 0)
