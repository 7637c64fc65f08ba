package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/guard"
	"github.com/redisidem/redisidem/cmd/bench/internal/machine"
	"github.com/redisidem/redisidem/cmd/bench/internal/progress"
	"github.com/redisidem/redisidem/cmd/bench/internal/report"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/scenario"
	"github.com/redisidem/redisidem/cmd/bench/internal/table"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
)

// server are the flags that say where to measure.
type server struct {
	Redis   string        `help:"URL of the server: redis://, redis+cluster://, redis+sentinel://. Default: a private redis-server." placeholder:"URL"`
	Latency time.Duration `help:"Make each round trip that much longer, through a proxy. Needs a single server."`
}

// output are the flags that say where results go besides the terminal.
type output struct {
	JSON string `name:"json" help:"Write the results to a file." placeholder:"FILE"`
	HTML string `name:"html" help:"Write the report to a file." placeholder:"FILE"`
}

type runCommand struct {
	server
	output
	Scenario    []string      `short:"s" help:"Only these scenarios: ${scenarios}." placeholder:"NAME"`
	Contender   []string      `short:"c" help:"Only these contenders: ${contenders}." placeholder:"NAME"`
	Callers     []int         `help:"Numbers of concurrent callers. Default: what each scenario is made for."`
	Body        []int         `help:"Sizes of a response in bytes." default:"200"`
	Records     []int64       `help:"Numbers of records that a private server holds before first executions, besides none."`
	Duration    time.Duration `help:"Length of each sample." default:"300ms"`
	Repetitions int           `help:"Samples of each contender." default:"3"`
	Rate        float64       `help:"Operations per second in an open loop, whose latencies count from when each was due. 0: a closed loop, as fast as it goes."`
	Long        bool          `help:"More of everything: more callers, sizes and repetitions, longer samples."`
	MedusaSQL   string        `name:"medusa-sql" help:"URL of a PostgreSQL, to compare with the SQL service that this library is modelled on." placeholder:"URL"`
	CPUProfile  string        `name:"cpuprofile" help:"Write a CPU profile of this process to a file." placeholder:"FILE"`
}

// Help implements kong's interface for what goes below the flags.
func (runCommand) Help() string {
	return "Contenders take turns within each repetition, so that a busy machine is busy for all of them. A ratio is of two " +
		"neighbouring samples; its spread is the lowest and highest of the repetitions. Only operations whose result was read " +
		"and checked count."
}

func (c *runCommand) validate() error {
	for _, name := range c.Scenario {
		if _, ok := scenario.ByName(name); !ok {
			return fmt.Errorf("--scenario: there is no %q, only %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	for _, name := range c.Contender {
		if _, ok := guard.ByName(name); !ok {
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
	case c.Duration < time.Millisecond:
		return fmt.Errorf("--duration: must be at least 1ms: %v", c.Duration)
	case c.Repetitions < 1:
		return fmt.Errorf("--repetitions: must be at least 1: %d", c.Repetitions)
	case c.Rate < 0:
		return fmt.Errorf("--rate: must not be negative: %g", c.Rate)
	}
	return nil
}

// Run is the command.
func (c *runCommand) Run(ctx context.Context) error {
	if c.MedusaSQL != "" {
		guard.AddMedusaSQL(c.MedusaSQL)
	}
	if err := c.validate(); err != nil {
		return err
	}
	if c.Long {
		c.Duration, c.Repetitions = max(c.Duration, 2*time.Second), max(c.Repetitions, 9)
		if c.Callers == nil {
			c.Callers = []int{1, 8, 64, 256}
		}
		if len(c.Body) == 1 {
			c.Body = []int{200, 1 << 10, 16 << 10, 64 << 10}
		}
		if c.Records == nil && c.Redis == "" {
			c.Records = []int64{10_000, 100_000, 1_000_000}
		}
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
	run := &result.Run{
		Schema: result.Schema, Began: began.UTC(), Command: result.Words(os.Args[1:]), Measured: srv.Measured,
		Machine: machine.Describe(srv.Title, srv.Topology),
	}
	if err := table.Head(os.Stdout, run); err != nil {
		return err
	}
	if err := c.measure(ctx, srv, run); err != nil {
		return err
	}
	run.Seconds = time.Since(began).Seconds()
	fmt.Printf("\n%.0f s in all. Ratios are against the first line of each table, sample by sample; ± is half the range of the samples.\n", run.Seconds)
	return c.write(run)
}

// measure runs every scenario at each of its points, and prints each when it is done.
func (c *runCommand) measure(ctx context.Context, srv *target.Server, run *result.Run) error {
	plans := make(map[string][]scenario.Plan)
	steps := 0
	var chosen []scenario.Scenario
	for _, s := range scenario.All() {
		if len(c.Scenario) > 0 && !slices.Contains(c.Scenario, s.Name) {
			continue
		}
		chosen = append(chosen, s)
		for _, p := range c.plans(s) {
			plans[s.Name] = append(plans[s.Name], p)
			steps += p.Steps(s)
		}
	}
	bar := progress.New(os.Stderr, steps)
	defer bar.Done()
	for _, s := range chosen {
		found := result.Scenario{Name: s.Name, Title: s.Title, About: s.About}
		for _, p := range plans[s.Name] {
			p.Step = bar.Step
			points, err := scenario.Run(ctx, srv, s, p)
			if err != nil {
				return err
			}
			found.Points = append(found.Points, points...)
		}
		run.Scenarios = append(run.Scenarios, found)
		bar.Clear()
		if err := table.Scenario(os.Stdout, &found, run.Measured); err != nil {
			return err
		}
	}
	return nil
}

// plans returns what to measure of a scenario: each number of callers, and at the last of them each further size and each
// number of records.
func (c *runCommand) plans(s scenario.Scenario) []scenario.Plan {
	callers := c.Callers
	if len(callers) == 0 || s.Alone {
		callers = []int{0}
	}
	plan := scenario.Plan{Duration: c.Duration, Repetitions: c.Repetitions, Rate: c.Rate, Kinds: c.Contender, Body: c.Body[0]}
	var all []scenario.Plan
	for _, n := range callers {
		plan.Callers = n
		all = append(all, plan)
	}
	if s.Leaves {
		for _, size := range c.Body[1:] {
			sized := plan
			sized.Body = size
			all = append(all, sized)
		}
		for _, n := range c.Records {
			filled := plan
			filled.Records = n
			all = append(all, filled)
		}
	}
	return all
}

// write puts a run where the flags say.
func (o *output) write(run *result.Run) error {
	if o.JSON != "" {
		if err := result.Write(o.JSON, run); err != nil {
			return err
		}
	}
	if o.HTML != "" {
		return writeHTML(o.HTML, run)
	}
	return nil
}

func writeHTML(path string, run *result.Run) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	return report.HTML(f, run)
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
	all := guard.All()
	names := make([]string, len(all))
	for i, k := range all {
		names[i] = k.Name
	}
	return names
}
