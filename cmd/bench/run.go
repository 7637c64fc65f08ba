package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/machine"
	"github.com/redisidem/redisidem/cmd/bench/internal/progress"
	"github.com/redisidem/redisidem/cmd/bench/internal/promise"
	"github.com/redisidem/redisidem/cmd/bench/internal/report"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/scenario"
	"github.com/redisidem/redisidem/cmd/bench/internal/table"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
)

// server holds the flags about the server.
type server struct {
	Redis   string        `help:"URL of the server: redis://, redis+cluster://, redis+sentinel://. Default: a private redis-server." placeholder:"URL"`
	Latency time.Duration `help:"Make each round trip that much longer, in whole milliseconds, through a proxy. Needs a single server."`
}

// validate checks the flags that can be checked without a server.
func (s *server) validate() error {
	if s.Latency < 0 || s.Latency > 10*time.Second || s.Latency%time.Millisecond != 0 {
		return fmt.Errorf("--latency: must be whole milliseconds, at most 10s: %v", s.Latency)
	}
	return nil
}

// output holds the flags about files for the results.
type output struct {
	JSON string `name:"json" help:"Write the results to a file." placeholder:"FILE"`
	HTML string `name:"html" help:"Write the report to a file." placeholder:"FILE"`
}

type runCommand struct {
	server
	output
	Scenario    []string      `short:"s" help:"Only these scenarios: ${scenarios}." placeholder:"NAME"`
	Contender   []string      `short:"c" help:"Only these contenders: ${contenders}." placeholder:"NAME"`
	Callers     []int         `help:"Numbers of concurrent callers. Default: the scenario's own; 4 on the embedded server."`
	Body        []int         `help:"Sizes of a response in bytes. Default: 200; with --long 100, 1024, 16384 and 65536, too."`
	Records     []int64       `help:"Numbers of records that a private server holds before first executions, besides none. Default with --long: 10000, 100000, 1000000, 2000000."`
	Duration    time.Duration `help:"Length of each sample. Default: 300ms; with --long 2s; 20ms on the embedded server."`
	Repetitions int           `help:"Samples of each contender. Default: 3; with --long 9; 1 on the embedded server."`
	Rate        float64       `help:"Operations per second in an open loop, whose latencies count from when each was due. 0: a closed loop, as fast as possible."`
	Long        bool          `help:"More of everything: 1, 8, 64 and 256 callers, more sizes, records and repetitions, longer samples. Takes more than an hour."`
	MedusaSQL   string        `name:"medusa-sql" help:"URL of a PostgreSQL, to compare with the SQL service that this library is modelled on." placeholder:"URL"`
	CPUProfile  string        `name:"cpuprofile" help:"Write a CPU profile of this process to a file." placeholder:"FILE"`
}

// Help implements kong's interface. It returns the text below the flags.
func (runCommand) Help() string {
	return "Contenders take turns within each repetition, so that a busy machine is busy for all of them. A ratio is of two " +
		"samples of the same repetition; its spread is the lowest and highest of the repetitions. Only operations whose result was read " +
		"and checked count."
}

func (c *runCommand) validate() error {
	if err := c.server.validate(); err != nil {
		return err
	}
	for _, name := range c.Scenario {
		if _, ok := scenario.ByName(name); !ok {
			return fmt.Errorf("--scenario: there is no %q, only %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	for _, name := range c.Contender {
		if _, ok := contender.ByName(name); !ok {
			return fmt.Errorf("--contender: there is no %q, only %s", name, strings.Join(contenderNames(), ", "))
		}
	}
	for _, n := range c.Callers {
		if n < 1 || n > 100_000 {
			return fmt.Errorf("--callers: must be between 1 and 100000: %d", n)
		}
	}
	for _, n := range c.Records {
		if n < 1 || n > 100_000_000 || c.Redis != "" {
			return fmt.Errorf("--records: must be between 1 and 100000000, and without --redis: %d", n)
		}
	}
	for _, n := range c.Body {
		if n < 0 || n > 1<<20 {
			return fmt.Errorf("--body: must be between 0 and %d: %d", 1<<20, n)
		}
	}
	switch {
	case c.Duration != 0 && c.Duration < time.Millisecond:
		return fmt.Errorf("--duration: must be at least 1ms: %v", c.Duration)
	case c.Repetitions < 0 || c.Repetitions > 1000:
		return fmt.Errorf("--repetitions: must be between 1 and 1000: %d", c.Repetitions)
	case math.IsNaN(c.Rate) || c.Rate != 0 && (c.Rate < 0.01 || c.Rate > 1e7):
		return fmt.Errorf("--rate: must be between 0.01 and 10000000, or 0: %g", c.Rate)
	case c.empty():
		return fmt.Errorf("--contender: none of %s takes part in the scenarios chosen", strings.Join(c.Contender, ", "))
	}
	return c.check()
}

// empty reports whether there is nothing to measure.
func (c *runCommand) empty() bool {
	return !slices.ContainsFunc(c.scenarios(), func(s scenario.Scenario) bool {
		return len(scenario.Plan{Kinds: c.Contender}.Contenders(s)) > 0
	})
}

// scenarios returns the chosen scenarios in their display order.
func (c *runCommand) scenarios() []scenario.Scenario {
	return slices.DeleteFunc(scenario.All(), func(s scenario.Scenario) bool {
		return len(c.Scenario) > 0 && !slices.Contains(c.Scenario, s.Name)
	})
}

// fill sets the defaults of omitted flags.
func (c *runCommand) fill(srv *target.Server) {
	duration, repetitions, body := 300*time.Millisecond, 3, []int{200}
	switch {
	case !srv.Measured:
		// A short run is enough to check correctness, and the embedded server is slow with many
		// callers.
		duration, repetitions = 20*time.Millisecond, 1
		if c.Callers == nil {
			c.Callers = []int{4}
		}
	case c.Long:
		duration, repetitions, body = 2*time.Second, 9, []int{200, 100, 1 << 10, 16 << 10, 64 << 10}
		if c.Callers == nil {
			c.Callers = []int{1, 8, 64, 256}
		}
		if c.Records == nil && srv.Private {
			c.Records = []int64{10_000, 100_000, 1_000_000, 2_000_000}
		}
	}
	if c.Duration == 0 {
		c.Duration = duration
	}
	if c.Repetitions == 0 {
		c.Repetitions = repetitions
	}
	if c.Body == nil {
		c.Body = body
	}
}

// Run compares the contenders.
func (c *runCommand) Run(ctx context.Context) error {
	if c.MedusaSQL != "" {
		contender.AddMedusaSQL(c.MedusaSQL)
	}
	if err := c.validate(); err != nil {
		return err
	}
	if c.CPUProfile != "" {
		stop, err := profile(c.CPUProfile)
		if err != nil {
			return err
		}
		defer stop()
	}
	began := time.Now()
	srv, err := target.Start(ctx, c.Redis, c.Latency)
	if err != nil {
		return err
	}
	defer srv.Stop()
	if len(c.Records) > 0 && !srv.Measured {
		return errors.New("--records: needs redis-server, which is not installed")
	}
	c.fill(srv)
	run := &result.Run{
		Schema: result.Schema, Began: began.UTC(), Command: result.Words(os.Args[1:]), Measured: srv.Measured,
		Machine: machine.Describe(srv.Title, srv.Topology), SampleSeconds: c.Duration.Seconds(),
		Latency: float64(c.Latency) / float64(time.Millisecond),
	}
	if err := table.Head(os.Stdout, run, width()); err != nil {
		return err
	}
	err = c.measure(ctx, srv, run)
	run.Seconds = time.Since(began).Seconds()
	if err != nil {
		if len(run.Scenarios) == 0 {
			return err
		}
		run.Incomplete = true
		return errors.Join(err, c.write(run)) // keeps the results of a long run
	}
	run.Machine.LoadAfter = machine.Load()
	if err := table.Foot(os.Stdout, run, width()); err != nil {
		return err
	}
	if err := c.write(run); err != nil {
		return err
	}
	return failures(run)
}

// failures returns an error that matches errShort if a contender failed, or if this library did not
// keep its promise.
func failures(run *result.Run) error {
	var failed []string
	for i := range run.Promises {
		if p := &run.Promises[i]; !p.Skipped && (p.Error != "" || p.Own && !p.Kept()) {
			failed = append(failed, p.Contender+" in the promise")
		}
	}
	for _, s := range run.Scenarios {
		for i := range s.Points {
			if p := &s.Points[i]; p.Error != "" && !p.Skipped {
				failed = append(failed, p.Contender+" in "+s.Name)
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	fmt.Fprintln(os.Stderr, "bench: failed:", strings.Join(slices.Compact(failed), ", "))
	return errShort
}

// measure runs every scenario at each of its points, and prints each scenario when it is done.
func (c *runCommand) measure(ctx context.Context, srv *target.Server, run *result.Run) error {
	plans := make(map[string][]scenario.Plan)
	steps := 0
	var chosen []scenario.Scenario
	for _, s := range c.scenarios() {
		all := c.plans(s)
		if len(all[0].Contenders(s)) == 0 {
			continue
		}
		chosen = append(chosen, s)
		plans[s.Name] = all
		for _, p := range all {
			steps += p.Steps(s)
		}
	}
	kinds := c.promised(chosen)
	bar := progress.New(os.Stderr, steps+len(kinds))
	defer bar.Done()
	for _, kind := range kinds {
		bar.Step("The promise: " + kind.Title)
		p, err := promise.Check(ctx, srv, kind)
		if err != nil {
			return err
		}
		run.Promises = append(run.Promises, p)
	}
	bar.Clear()
	if err := table.Promises(os.Stdout, run.Promises, width()); err != nil {
		return err
	}
	for _, s := range chosen {
		found := result.Scenario{Name: s.Name, Title: s.Title, About: s.About, Timed: s.Timed}
		for _, p := range plans[s.Name] {
			p.Step = bar.Step
			points, err := scenario.Run(ctx, srv, s, p)
			if err != nil {
				if len(found.Points) > 0 {
					run.Scenarios = append(run.Scenarios, found)
				}
				return err
			}
			found.Points = append(found.Points, points...)
		}
		run.Scenarios = append(run.Scenarios, found)
		bar.Clear()
		if err := table.Scenario(os.Stdout, &found, run.Measured, width()); err != nil {
			return err
		}
	}
	return nil
}

// promised returns the contenders whose promise is checked: those of the first scenario that can
// replay a response, if they take part in one that was chosen.
func (c *runCommand) promised(chosen []scenario.Scenario) []contender.Kind {
	var kinds []contender.Kind
	for _, name := range (scenario.Plan{Kinds: c.Contender}).Contenders(scenario.All()[0]) {
		kind, ok := contender.ByName(name)
		takesPart := slices.ContainsFunc(chosen, func(s scenario.Scenario) bool { return slices.Contains(s.Kinds, name) })
		if ok && kind.Replays && takesPart {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// width is the width of the texts on standard output: that of the terminal, or of a page.
func width() int {
	if columns := progress.Width(os.Stdout); columns > 0 {
		return columns
	}
	return table.PageWidth
}

// plans returns the measurements of a scenario, at least one. It has one for each number of
// callers. At the last number of callers it adds one for each further size and each number of
// records.
func (c *runCommand) plans(s scenario.Scenario) []scenario.Plan {
	callers := c.Callers
	if len(callers) == 0 || s.Timed {
		callers = []int{0}
	}
	plan := scenario.Plan{Duration: c.Duration, Repetitions: c.Repetitions, Rate: c.Rate, Kinds: c.Contender, Body: c.Body[0]}
	var all []scenario.Plan
	for _, n := range callers {
		plan.Callers = n
		all = append(all, plan)
	}
	if s.Sized || len(c.Scenario) > 0 && !s.Varied {
		for _, size := range c.Body[1:] {
			sized := plan
			sized.Body = size
			all = append(all, sized)
		}
	}
	if s.Leaves && !s.Varied {
		for _, n := range c.Records {
			filled := plan
			filled.Records = n
			all = append(all, filled)
		}
	}
	return all
}

// check makes sure that the files can be written, before a long run.
func (o *output) check() error {
	for flag, path := range map[string]string{"--json": o.JSON, "--html": o.HTML} {
		if path == "" {
			continue
		}
		_, missing := os.Stat(path)
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			err = f.Close()
		}
		if err == nil && missing != nil {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	return nil
}

// write writes a run to the files named by the flags.
func (o *output) write(run *result.Run) error {
	if o.JSON != "" {
		if err := result.Write(o.JSON, run); err != nil {
			return err
		}
	}
	if o.HTML != "" {
		return write(o.HTML, func(w io.Writer) error { return report.HTML(w, run) })
	}
	return nil
}

func write(path string, what func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	return what(f)
}

func profile(path string) (stop func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}, nil
}

func scenarioNames() []string {
	all := scenario.All()
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Name
	}
	return names
}

func contenderNames() []string {
	all := contender.All()
	names := make([]string, len(all))
	for i, k := range all {
		names[i] = k.Name
	}
	return names
}
