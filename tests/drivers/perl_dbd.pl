# Perl's DBD::Pg: statements prepared on the server, transactions, COPY, cancel, and an insert loop.
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg qw(:async);
use Time::HiRes qw(time sleep);

my ($url, $mode, $seconds) = @ARGV;
my $TABLE = 't_perl';
my $failed = 0;

sub same {
    my ($found, $wanted) = @_;
    die "found $found, wanted $wanted\n" if $found ne $wanted;
}

sub wants {
    my ($c, $state, $call) = @_;
    die "no error, wanted $state\n" if eval { $call->(); 1 };
    same($c->state, $state);
}

sub step {
    my ($name, $call) = @_;
    if (eval { $call->(); 1 }) {
        print "ok $name\n";
    } else {
        $failed = 1;
        print "FAILED $name\n";
        print STDERR $@;
    }
}

sub steps {
    my ($c) = @_;
    my $count = sub { ($c->selectrow_array("SELECT count(*) FROM $TABLE WHERE $_[0]"))[0] };
    step('parameterised_write', sub {
        $c->do("DROP TABLE IF EXISTS $TABLE");
        $c->do("CREATE TABLE $TABLE (id int PRIMARY KEY, name text)");
        my $insert = $c->prepare("INSERT INTO $TABLE VALUES (?, ?)");
        same($insert->execute($_, "näme $_"), 1) for 0 .. 19;
    });
    step('parameterised_read', sub {
        my $select = $c->prepare("SELECT name FROM $TABLE WHERE id = ?");
        for my $n (0 .. 19) {
            $select->execute($n);
            same(($select->fetchrow_array)[0], "näme $n");
            $select->finish;
        }
    });
    step('own_writes_are_read', sub {
        for my $n (0 .. 49) {
            $c->do("UPDATE $TABLE SET name = ? WHERE id = 0", undef, $n);
            same(($c->selectrow_array("SELECT name FROM $TABLE WHERE id = 0"))[0], $n);
        }
    });
    step('statements_come_and_go', sub {
        same(($c->selectrow_array("SELECT ?::int + $_", undef, $_))[0], 2 * $_) for 0 .. 99;
    });
    step('transactions', sub {
        $c->begin_work;
        $c->do("INSERT INTO $TABLE VALUES (300, 'tx')");
        $c->commit;
        $c->begin_work;
        $c->do("DELETE FROM $TABLE");
        $c->rollback;
        $c->begin_work;
        wants($c, '23505', sub { $c->do("INSERT INTO $TABLE VALUES (?)", undef, 300) });
        wants($c, '25P02', sub { $c->do('SELECT 1') });
        $c->rollback;
        $c->begin_work;
        $c->do("INSERT INTO $TABLE VALUES (302, 'kept')");
        $c->pg_savepoint('here');
        wants($c, '22012', sub { $c->do('SELECT 1 / 0') });
        $c->pg_rollback_to('here');
        $c->commit;
        same($count->('true'), 22);
    });
    step('copy', sub {
        $c->do("COPY $TABLE FROM STDIN");
        $c->pg_putcopydata("$_\tcopied\n") for 10_000 .. 29_999;
        $c->pg_putcopyend;
        same($count->('id >= 10000'), 20_000);
        $c->do("COPY $TABLE TO STDOUT");
        my ($lines, $line) = (0, '');
        $lines++ while $c->pg_getcopydata($line) >= 0;
        same($lines, 20_022);
        same($c->do("DELETE FROM $TABLE WHERE id >= 10000"), 20_000);
    });
    step('cancel', sub {
        $c->do('SELECT pg_sleep(30)', { pg_async => PG_ASYNC });
        sleep 0.3;
        same($c->pg_cancel, 1);
        same($count->('id < 20'), 20);
    });
    step('catalog', sub {
        my @columns = map { $_->[3] } @{ $c->column_info(undef, 'public', $TABLE, '%')->fetchall_arrayref };
        same("@columns", 'id name');
        same($c->ping > 0 ? 1 : 0, 1);
    });
}

sub inserts {
    my ($c) = @_;
    $c->do("DROP TABLE IF EXISTS ${TABLE}_loop");
    $c->do("CREATE TABLE ${TABLE}_loop (n int)");
    my $insert = $c->prepare("INSERT INTO ${TABLE}_loop VALUES (?)");
    my ($end, $longest, %acknowledged, @errors) = (time + $seconds, 0);
    for (my $n = 1; (my $asked = time) < $end && @errors < 20; $n++) {
        if (eval { $insert->execute($n); 1 }) { $acknowledged{$n} = 1 }
        else { push @errors, (split /\n/, $c->state . ' ' . $c->errstr)[0] }
        $longest = time - $asked if time - $asked > $longest;
    }
    my %missing = %acknowledged;
    delete $missing{ $_->[0] } for @{ $c->selectall_arrayref("SELECT n FROM ${TABLE}_loop") };
    $failed = %missing || !%acknowledged || @errors >= 20 ? 1 : 0;
    printf "%s inserts acknowledged=%d missing=%d errors=%d longest_ms=%d\n", $failed ? 'FAILED' : 'ok',
        scalar keys %acknowledged, scalar keys %missing, scalar @errors, $longest * 1000;
    print "   error: $_\n" for @errors;
}

print "version $DBD::Pg::VERSION\n";
my ($user, $password, $host, $port, $name) = $url =~ m{^\w+://([^:]+):([^@]+)@([^:/]+):(\d+)/(\w+)};
my $c = DBI->connect("dbi:Pg:host=$host;port=$port;dbname=$name", $user, $password,
    { RaiseError => 1, PrintError => 0, AutoCommit => 1 });
($mode // '') eq 'inserts' ? inserts($c) : steps($c);
$c->disconnect;
exit $failed;
