<?php
// PDO and the pgsql functions of PHP: prepared on the server and emulated, transactions, COPY, and an insert loop.
declare(strict_types=1);

const TABLE = 't_php';
[, $url, $mode, $seconds] = $argv + [2 => 'steps', 3 => '4'];
$failed = false;

function same($found, $wanted): void
{
    if ($found !== $wanted) {
        throw new Exception('found ' . var_export($found, true) . ', wanted ' . var_export($wanted, true));
    }
}

function wants(string $state, callable $call): void
{
    try {
        $call();
    } catch (PDOException $error) {
        same((string) $error->getCode(), $state);
        return;
    }
    throw new Exception("no error, wanted $state");
}

function step(string $name, callable $call): void
{
    global $failed;
    try {
        $call();
        echo "ok $name\n";
    } catch (Throwable $error) {
        $failed = true;
        echo "FAILED $name\n";
        fwrite(STDERR, "$error\n");
    }
}

function open(string $url, array $options = []): PDO
{
    $at = parse_url($url);
    $dsn = sprintf('pgsql:host=%s;port=%d;dbname=%s', $at['host'], $at['port'], trim($at['path'], '/'));
    return new PDO($dsn, $at['user'], $at['pass'], $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

function steps(string $url): void
{
    $c = open($url);
    $count = fn (string $filter) => $c->query('SELECT count(*) FROM ' . TABLE . " WHERE $filter")->fetchColumn();
    step('parameterised_write', function () use ($c) {
        $c->exec('DROP TABLE IF EXISTS ' . TABLE);
        $c->exec('CREATE TABLE ' . TABLE . ' (id int PRIMARY KEY, name text)');
        $insert = $c->prepare('INSERT INTO ' . TABLE . ' VALUES (?, ?)');
        for ($n = 0; $n < 20; $n++) {
            $insert->execute([$n, "näme $n"]);
            same($insert->rowCount(), 1);
        }
    });
    step('parameterised_read', function () use ($c, $url) {
        $emulated = open($url, [PDO::ATTR_EMULATE_PREPARES => true]);
        foreach ([$c, $emulated] as $one) {
            $select = $one->prepare('SELECT name FROM ' . TABLE . ' WHERE id = :id');
            for ($n = 0; $n < 20; $n++) {
                $select->execute(['id' => $n]);
                same($select->fetchAll(PDO::FETCH_COLUMN), ["näme $n"]);
            }
        }
    });
    step('own_writes_are_read', function () use ($c) {
        $update = $c->prepare('UPDATE ' . TABLE . ' SET name = ? WHERE id = 0');
        for ($n = 0; $n < 50; $n++) {
            $update->execute([(string) $n]);
            same($c->query('SELECT name FROM ' . TABLE . ' WHERE id = 0')->fetchColumn(), (string) $n);
        }
    });
    step('statements_come_and_go', function () use ($c) {
        // Each statement object is deallocated by name when it is dropped.
        for ($n = 0; $n < 100; $n++) {
            $select = $c->prepare("SELECT ?::int + $n");
            $select->execute([$n]);
            same($select->fetchColumn(), 2 * $n);
        }
    });
    step('transactions', function () use ($c, $count) {
        $c->beginTransaction();
        $c->exec('INSERT INTO ' . TABLE . " VALUES (300, 'tx')");
        $c->commit();
        $c->beginTransaction();
        $c->exec('DELETE FROM ' . TABLE);
        $c->rollBack();
        $c->beginTransaction();
        wants('23505', fn () => $c->exec('INSERT INTO ' . TABLE . ' VALUES (300)'));
        wants('25P02', fn () => $c->query('SELECT 1'));
        $c->rollBack();
        same($count('true'), 21);
    });
    step('copy', function () use ($c, $count) {
        $rows = array_map(fn ($n) => "$n\tcopied", range(10000, 29999));
        same($c->pgsqlCopyFromArray(TABLE, $rows), true);
        same($count('id >= 10000'), 20000);
        same(count($c->pgsqlCopyToArray(TABLE)), 20021);
        same($c->exec('DELETE FROM ' . TABLE . ' WHERE id >= 10000'), 20000);
    });
    step('statement_timeout', function () use ($c, $count) {
        $c->exec('SET statement_timeout TO 200');
        wants('57014', fn () => $c->query('SELECT pg_sleep(30)'));
        $c->exec('RESET statement_timeout');
        same($count('id < 20'), 20);
    });
    step('cancel', function () use ($url) {
        $other = pg_connect($url);
        pg_send_query($other, 'SELECT pg_sleep(30)');
        usleep(300000);
        same(pg_cancel_query($other), true);
        same(pg_fetch_result(pg_query_params($other, 'SELECT $1::int', [7]), 0, 0), '7');
        pg_close($other);
    });
}

function inserts(string $url, float $seconds): void
{
    global $failed;
    $c = open($url);
    $c->exec('DROP TABLE IF EXISTS ' . TABLE . '_loop');
    $c->exec('CREATE TABLE ' . TABLE . '_loop (n int)');
    $insert = $c->prepare('INSERT INTO ' . TABLE . '_loop VALUES (?)');
    $end = microtime(true) + $seconds;
    [$acknowledged, $errors, $longest] = [[], [], 0.0];
    for ($n = 1; ($asked = microtime(true)) < $end && count($errors) < 20; $n++) {
        try {
            $insert->execute([$n]);
            $acknowledged[] = $n;
        } catch (PDOException $error) {
            $errors[] = strtok($error->getMessage(), "\n");
        }
        $longest = max($longest, microtime(true) - $asked);
    }
    $found = $c->query('SELECT n FROM ' . TABLE . '_loop')->fetchAll(PDO::FETCH_COLUMN);
    $missing = array_diff($acknowledged, $found);
    $failed = $missing || !$acknowledged || count($errors) >= 20;
    printf("%s inserts acknowledged=%d missing=%d errors=%d longest_ms=%d\n", $failed ? 'FAILED' : 'ok',
        count($acknowledged), count($missing), count($errors), $longest * 1000);
    foreach ($errors as $error) {
        echo "   error: $error\n";
    }
}

echo 'version ' . PHP_VERSION . "\n";
$mode === 'inserts' ? inserts($url, (float) $seconds) : steps($url);
exit($failed ? 1 : 0);
