package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// asProgram is set in the environment of a process that runs the program instead of the tests.
const asProgram = "BENCH_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	leak.Main(m)
}

// bench runs the program.
func bench(t *testing.T, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Env = append(append(os.Environ(), asProgram+"=1"), env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestWrongUseIsExplained(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "no", "such", "folder", "x")
	for args, reason := range map[string]string{
		"run --callers 0":              "--callers: must be between 1 and 100000: 0",
		"run --body -1":                "--body",
		"run --body 2000000":           "--body: must be between 0 and 1048576: 2000000",
		"run --records 0":              "--records",
		"run --duration 1us":           "--duration: must be at least 1ms: 1µs",
		"run --repetitions -1":         "--repetitions",
		"run --rate=-1":                "--rate: must be between 0.01 and 10000000, or 0: -1",
		"run --rate NaN":               "--rate: must be between 0.01 and 10000000, or 0: NaN",
		"run --rate 1e-300":            "--rate",
		"run --latency 1500us":         "--latency: must be whole milliseconds, at most 10s: 1.5ms",
		"run --latency=-1ms":           "--latency",
		"run --scenario nope":          `--scenario: there is no "nope", only lifecycle`,
		"run --contender nope":         `--contender: there is no "nope", only redisidem`,
		"run -s handover -c floor":     "--contender: none of floor takes part",
		"run --json " + missing:        "--json: open " + missing,
		"run --html " + missing:        "--html: open " + missing,
		"figures --json " + missing:    "--json: open " + missing,
		"figures --records 10":         "--records: must be at least 10000: 10",
		"figures --repetitions 0":      "--repetitions: must be at least 1: 0",
		"run --redis http://127.0.0.1": "--redis: the scheme must be redis or rediss",
		"compare a.json":               "a.json",
		"nonsense":                     "nonsense",
	} {
		status, stdout, stderr := bench(t, nil, strings.Fields(args)...)
		if status != 2 || !strings.Contains(stderr, reason) || stdout != "" {
			t.Errorf("bench %s: status %d\n%s%s", args, status, stdout, stderr)
		}
	}
}

func TestRunOnTheEmbeddedServerIsNoMeasurement(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, page := filepath.Join(dir, "run.json"), filepath.Join(dir, "run.html")
	status, stdout, stderr := bench(t, []string{"PATH=" + dir, "REDISIDEM_SERVER="}, "run", "--long", "--callers", "2", "--body", "200",
		"--duration", "10ms", "--repetitions", "1", "-s", "lifecycle", "-c", "redislock", "-c", "redisidem", "--json", file, "--html", page)
	if status != 0 || !strings.Contains(stdout, "correctness only, not a measurement") {
		t.Fatalf("status %d\n%s%s", status, stdout, stderr)
	}
	run, err := result.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if run.Measured || len(run.Scenarios) != 1 || len(run.Scenarios[0].Points) != 2 || run.Scenarios[0].Points[1].Error != "" {
		t.Errorf("the run is %+v", run)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "<html") {
		t.Errorf("the report has %d bytes, %v", len(html), err)
	}
	for _, args := range [][]string{{"run", "--records", "1000"}, {"figures"}} {
		status, _, stderr = bench(t, []string{"PATH=" + dir, "REDISIDEM_SERVER="}, args...)
		if status != 2 || !strings.Contains(stderr, "redis-server") {
			t.Errorf("%v: status %d, %s", args, status, stderr)
		}
	}
}

// TestEverythingRunsOnTheEmbeddedServer is a first run on a machine without redis-server.
func TestEverythingRunsOnTheEmbeddedServer(t *testing.T) {
	t.Parallel()
	began := time.Now()
	status, stdout, stderr := bench(t, []string{"PATH=" + t.TempDir(), "REDISIDEM_SERVER="})
	if status != 0 || !strings.Contains(stdout, "correctness only, not a measurement") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	for _, want := range []string{"rueidislock by hand: left out, 4 callers", "gateway: left out, 4 callers", "Mixed traffic"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("there is no %q in:\n%s", want, stdout)
		}
	}
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("it takes %v", took)
	}
}

// TestSweep measures at several loads, then reports and compares the results.
func TestSweep(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	file, page := filepath.Join(t.TempDir(), "run.json"), filepath.Join(t.TempDir(), "run.html")
	status, stdout, stderr := bench(t, nil, "run", "--callers", "1,4", "--body", "100,1024", "--records", "5000", "--duration", "10ms",
		"--repetitions", "2", "-s", "lifecycle", "-s", "handover", "-s", "mixed", "-c", "redislock", "-c", "redisidem", "--json", file)
	if status != 0 {
		t.Fatalf("status %d\n%s%s", status, stdout, stderr)
	}
	run, err := result.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	// lifecycle: two contenders with 1 caller and 4, the second size, and the records. handover:
	// one contender with both sizes. mixed: two contenders with 1 caller and 4.
	for name, want := range map[string]int{"lifecycle": 8, "handover": 2, "mixed": 4} {
		for _, s := range run.Scenarios {
			if s.Name == name && len(s.Points) != want {
				t.Errorf("%s has %d points, want %d", name, len(s.Points), want)
			}
		}
	}
	if status, _, stderr := bench(t, nil, "report", file, "-o", page); status != 0 {
		t.Errorf("report: status %d, %s", status, stderr)
	}
	if status, stdout, stderr := bench(t, nil, "compare", file, file); status != 0 || !strings.Contains(stdout, "First execution") {
		t.Errorf("compare: status %d\n%s%s", status, stdout, stderr)
	}
}

// started starts the program, so that a test can interrupt it.
func started(t *testing.T, args ...string) (cmd *exec.Cmd, stdout io.Reader) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	if stdout, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdout
}

func TestInterruptedRunKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	file := filepath.Join(t.TempDir(), "run.json")
	cmd, stdout := started(t, "run", "-s", "lifecycle", "-s", "replay", "-c", "redislock", "--callers", "1,2", "--duration", "200ms", "--json", file)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), "First execution") { // the first scenario is done
			break
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stdout); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // the exit status is checked below
	run, err := result.Read(file)
	if err != nil || cmd.ProcessState.ExitCode() != 2 || !run.Incomplete || len(run.Scenarios) == 0 || run.SampleSeconds != 0.2 {
		t.Errorf("status %d, %+v, %v", cmd.ProcessState.ExitCode(), run, err)
	}
}

// TestSecondInterruptEndsTheProgram uses a server that accepts connections and never answers.
func TestSecondInterruptEndsTheProgram(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	cmd, _ := started(t, "run", "--redis", "redis://"+listener.Addr().String())
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the exit status is checked below
		close(ended)
	}()
	for range 100 { // the program needs a moment to handle the first one
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		select {
		case <-ended:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Error("it goes on")
	_ = cmd.Process.Kill()
	<-ended
}

func TestFailedContendersAreAFailure(t *testing.T) {
	t.Parallel()
	run := &result.Run{Scenarios: []result.Scenario{{Name: "lifecycle", Points: []result.Point{
		{Contender: "one"}, {Contender: "two", Error: "needs another server", Skipped: true},
	}}}}
	if err := failures(run); err != nil {
		t.Errorf("who is left out fails: %v", err)
	}
	run.Scenarios[0].Points[0].Error = "wrong bytes"
	if err := failures(run); err == nil {
		t.Error("who fails does not")
	}
	for _, test := range []struct {
		promise result.Promise
		fails   bool
	}{
		{result.Promise{Contender: "rival", Runs: 2, Answers: 2}, false},
		{result.Promise{Contender: "rival", Error: "needs another server", Skipped: true}, false},
		{result.Promise{Contender: "rival", Error: "wrong bytes"}, true},
		{result.Promise{Contender: "own", Own: true, Runs: 2, Answers: 2}, true},
	} {
		if err := failures(&result.Run{Promises: []result.Promise{test.promise}}); (err != nil) != test.fails {
			t.Errorf("%+v: %v", test.promise, err)
		}
	}
}
