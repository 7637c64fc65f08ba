// Package sqltest has SQL databases for tests, on servers that are plain processes on the loopback
// interface with folders of their own: PostgreSQL and MariaDB. Tests of a package that run at the
// same time share a server. It links no driver.
package sqltest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// patience is how long a server may take to start.
const patience = time.Minute

// Database is an empty database for one test. Its user is "test", who has all rights and no
// password.
type Database struct {
	// Addr is the address of the server, host and port.
	Addr string
	// Name is the name of the database.
	Name string
}

// PostgresURL is the URL of a PostgreSQL database.
func (d Database) PostgresURL() string {
	return "postgres://test@" + d.Addr + "/" + d.Name + "?sslmode=disable"
}

// MySQLName is the data source name of a MariaDB database for go-sql-driver/mysql.
func (d Database) MySQLName() string {
	return "test@tcp(" + d.Addr + ")/" + d.Name + "?timeout=5s&readTimeout=30s&writeTimeout=30s"
}

// server is a kind of server, of which one process runs while tests use it.
type server struct {
	mu       sync.Mutex
	users    int
	made     int // databases
	addr     string
	stop     func()
	owner    *user.User
	dir      string
	start    func(t testing.TB, s *server)
	database func(t testing.TB, s *server, name string)
}

var (
	postgres = &server{start: startPostgres, database: createPostgres}
	mariadb  = &server{start: startMariaDB, database: createMariaDB}
)

// Postgres returns a database on a PostgreSQL server, which runs until the last test that uses it
// ends. Commits are not flushed to the disk, because tests kill processes and not machines.
func Postgres(t testing.TB) Database {
	t.Helper()
	return postgres.use(t)
}

// MariaDB returns a database on a MariaDB server, as Postgres does.
func MariaDB(t testing.TB) Database {
	t.Helper()
	return mariadb.use(t)
}

func (s *server) use(t testing.TB) Database {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		s.start(t, s)
	}
	s.users++
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.users--
		if s.users == 0 {
			s.stop()
			_ = os.RemoveAll(s.dir)
		}
	})
	s.made++
	name := "test" + strconv.Itoa(s.made)
	s.database(t, s, name)
	return Database{Addr: s.addr, Name: name}
}

func startPostgres(t testing.TB, s *server) {
	t.Helper()
	dir := need(t, "Debian: apt-get install postgresql", "postgres", "initdb", "psql")
	s.prepare(t, "postgres")
	s.run(t, filepath.Join(dir, "initdb"), "-D", filepath.Join(s.dir, "db"), "-U", "test", "-A", "trust", "-N", "--no-instructions")
	s.launchOnFreePort(t, "database system is ready to accept connections", func(port string) []string {
		return []string{
			filepath.Join(dir, "postgres"), "-D", filepath.Join(s.dir, "db"), "-h", "127.0.0.1", "-p", port, "-k", s.dir,
			"-c", "fsync=off", "-c", "max_connections=300", "-c", "shared_buffers=32MB",
		}
	})
}

func createPostgres(t testing.TB, s *server, name string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.addr)
	psql := filepath.Join(need(t, "", "psql"), "psql")
	s.run(t, psql, "-h", host, "-p", port, "-U", "test", "-d", "postgres", "-c", "CREATE DATABASE "+name)
}

func startMariaDB(t testing.TB, s *server) {
	t.Helper()
	const advice = "Debian: apt-get install mariadb-server"
	installer, daemon := need(t, advice, "mariadb-install-db"), need(t, advice, "mariadbd")
	s.prepare(t, "mysql")
	s.run(t, filepath.Join(installer, "mariadb-install-db"), "--no-defaults", "--datadir="+filepath.Join(s.dir, "db"),
		"--auth-root-authentication-method=normal", "--skip-test-db")
	s.launchOnFreePort(t, "ready for connections", func(port string) []string {
		return []string{
			filepath.Join(daemon, "mariadbd"), "--no-defaults", "--datadir=" + filepath.Join(s.dir, "db"), "--bind-address=127.0.0.1",
			"--port=" + port, "--socket=" + s.socket(), "--pid-file=" + filepath.Join(s.dir, "pid"), "--innodb-flush-log-at-trx-commit=0",
			"--innodb-buffer-pool-size=32M", "--skip-name-resolve", "--max-connections=300",
		}
	})
	s.mysql(t, "CREATE USER test@'127.0.0.1'; GRANT ALL ON *.* TO test@'127.0.0.1'")
}

func createMariaDB(t testing.TB, s *server, name string) {
	t.Helper()
	s.mysql(t, "CREATE DATABASE "+name)
}

// mysql runs statements as the administrator.
func (s *server) mysql(t testing.TB, text string) {
	t.Helper()
	client := filepath.Join(need(t, "Debian: apt-get install mariadb-client", "mariadb"), "mariadb")
	s.run(t, client, "--no-defaults", "--socket="+s.socket(), "-u", "root", "-e", text)
}

func (s *server) socket() string { return filepath.Join(s.dir, "s") }

// need returns the folder of the first program. Without the programs it skips the test, or fails it
// where [rediscase.Variable] is set.
func need(t testing.TB, advice string, names ...string) (dir string) {
	t.Helper()
	folders := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/bin")
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(installed) // the latest first
	folders = append(installed, folders...)
	for i, name := range names {
		j := slices.IndexFunc(folders, func(f string) bool {
			info, err := os.Stat(filepath.Join(f, name))
			return err == nil && info.Mode()&0o111 != 0
		})
		switch {
		case j >= 0 && i == 0:
			dir = folders[j]
		case j >= 0:
		case os.Getenv(rediscase.Variable) == "1":
			t.Fatalf("%s was not found; %s", name, advice)
		default:
			t.Skipf("%s was not found; %s", name, advice)
		}
	}
	return dir
}

// prepare makes the server's folder, and finds the user that it runs as: servers refuse root. The
// path of the folder is short, because those of sockets are limited.
func (s *server) prepare(t testing.TB, name string) {
	t.Helper()
	var err error
	if s.dir, err = os.MkdirTemp("/tmp", "sqltest"); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		return
	}
	if s.owner, err = user.Lookup(name); err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(s.owner.Uid)
	gid, _ := strconv.Atoi(s.owner.Gid)
	if err := os.Chown(s.dir, uid, gid); err != nil {
		t.Fatal(err)
	}
}

// command returns a command of the server's user.
func (s *server) command(ctx context.Context, words ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // a program of this test
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "TMPDIR="+s.dir, "LC_ALL=C", "TZ=UTC")
	cmd.SysProcAttr = as(s.owner)
	return cmd
}

// run runs a program, and ends the test if it fails.
func (s *server) run(t testing.TB, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := s.command(ctx, words...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(words[0]), err, out)
	}
}

// launchOnFreePort starts the server's process, and waits until its log has the text.
func (s *server) launchOnFreePort(t testing.TB, ready string, words func(port string) []string) {
	t.Helper()
	var err error
	for range 5 { // another process may take the port
		var port string
		if port, err = freePort(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.stop, err = launch(s.command(context.Background(), words(port)...), filepath.Join(s.dir, "log"+port), ready)
		if err == nil {
			s.addr = net.JoinHostPort("127.0.0.1", port)
			return
		}
	}
	t.Fatal(err)
}

// launch starts a process, and waits until its log has the text. It returns a function that ends
// the process.
func launch(cmd *exec.Cmd, log, ready string) (end func(), err error) {
	out, err := os.Create(log) //nolint:gosec // in the test's folder
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = out, out
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = out.Close() }()
		// Linux ends the child when the thread that started it ends; see package redistest.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-done
		return nil, err
	}
	end = func() {
		stop(cmd.Process)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(log) //nolint:gosec // in the test's folder
		if strings.Contains(string(text), ready) {
			return end, nil
		}
		select {
		case <-done:
			return nil, fmt.Errorf("%s has ended:\n%s", filepath.Base(cmd.Path), text)
		default:
		}
		if time.Now().After(deadline) {
			end()
			return nil, fmt.Errorf("%s did not start within %v:\n%s", filepath.Base(cmd.Path), patience, text)
		}
	}
}

func freePort(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
