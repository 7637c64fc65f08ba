package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/capacity"
)

// planCommand prints what a deployment needs.
type planCommand struct {
	Rate      float64       `required:"" help:"First executions per second."`
	Stages    int           `default:"1" help:"Stages of each: each is stored by itself."`
	Replays   float64       `default:"0" help:"Replays per second that are read from Redis."`
	Retention time.Duration `default:"24h" help:"How long finished records are kept."`
	Body      int           `default:"500" help:"Bytes of a stored response."`
	Work      time.Duration `default:"100ms" help:"How long the work of one execution takes."`
	Lease     time.Duration `default:"10s" help:"Config.Lease."`
	RoundTrip time.Duration `name:"rtt" default:"500us" help:"Round trip between a process and Redis."`
	Callers   int           `default:"256" help:"Callers that work at the same time in one process."`
	Replicas  int           `default:"1" help:"Replicas of each master."`

	Busy    int     `default:"60" help:"Percentage of a master's main thread that may be in use. Above 70 the latency grows quickly."`
	Memory  float64 `default:"16" help:"Memory of a master for records, in GiB."`
	Network float64 `default:"5" help:"Network of a master in each direction, in Gbit/s."`
}

// largestCluster is how many masters of a cluster share the keys evenly. Of the 1024 shards, each
// of 128 masters has 8 on average and 9 at most.
const largestCluster = 128

// check returns an error that names a flag out of its bounds.
func (c *planCommand) check() error {
	for _, flag := range []struct {
		name              string
		value, low, upper float64
	}{
		{"--rate", c.Rate, 0, 1e9},
		{"--stages", float64(c.Stages), 1, 1000},
		{"--replays", c.Replays, 0, 1e9},
		{"--retention", c.Retention.Seconds(), 0.001, (365 * 24 * time.Hour).Seconds()},
		{"--body", float64(c.Body), 0, 512 << 20},
		{"--work", c.Work.Seconds(), 0, (24 * time.Hour).Seconds()},
		{"--lease", c.Lease.Seconds(), 0.01, (24 * time.Hour).Seconds()},
		{"--rtt", c.RoundTrip.Seconds(), 0, 60},
		{"--callers", float64(c.Callers), 1, 1e6},
		{"--replicas", float64(c.Replicas), 0, 100},
		{"--busy", float64(c.Busy), 1, 100},
		{"--memory", c.Memory, 0.001, 1e6},
		{"--network", c.Network, 0.001, 1e6},
	} {
		if !(flag.value >= flag.low && flag.value <= flag.upper) { // NaN is within no bounds
			return fmt.Errorf("%s: must be between %g and %g (durations in seconds): %g", flag.name, flag.low, flag.upper, flag.value)
		}
	}
	return nil
}

// Run prints the plan.
func (c *planCommand) Run() error {
	if err := c.check(); err != nil {
		return err
	}
	load := capacity.Load{
		Rate: c.Rate, Stages: c.Stages, Replays: c.Replays, Retention: c.Retention, Response: c.Body, Work: c.Work,
		Lease: c.Lease, RoundTrip: c.RoundTrip, Callers: c.Callers, Replicas: c.Replicas,
	}
	server := capacity.Server{Busy: float64(c.Busy) / 100, Memory: c.Memory * (1 << 30), Network: c.Network * 1e9 / 8}
	n := capacity.Of(&load, &server)
	masters := float64(n.Masters)

	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	row := func(name, needs, detail string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, needs, fmt.Sprintf(detail, args...))
	}
	row("Masters", fmt.Sprint(n.Masters), "the largest of the next three; replicas besides: %d", n.Masters*c.Replicas)
	row("  by time", decimal(n.ByTime), "each %d %% busy, at most %d %%", int(math.Round(100*server.Busy*n.ByTime/masters)), c.Busy)
	row("  by memory", decimal(n.ByMemory), "each %s of %s", memory(n.Memory/masters), memory(server.Memory))
	row("  by network", decimal(n.ByNetwork), "each in %s, out %s of %s", bandwidth(n.Received/masters), bandwidth(n.Sent/masters), bandwidth(server.Network))
	row("Records", grouped(n.Records), "%s of memory each, %s in all", memory(n.RecordBytes), memory(n.Memory))
	row("Round trips", fmt.Sprint(n.Trips), "of a first execution: %v more than the work's own time", n.Added)
	row("Under way", grouped(math.Ceil(n.InFlight)), "executions at the same time, with %s renewals of leases per second", grouped(n.Renewals))
	row("Processes", grouped(float64(n.Processes)), "with %d callers each; %s cores for the library in all", c.Callers, decimal(n.Cores))
	row("Connections", grouped(float64(n.Processes)), "to each master with auto-pipelining; up to %s without", grouped(float64(n.Processes*c.Callers)))
	if err := w.Flush(); err != nil {
		return err
	}
	if n.Masters > largestCluster {
		fmt.Printf("\nThese are more masters than one cluster has. Shorten the retention, set hash-max-listpack-value 512,\n"+
			"or divide the keys among several clusters of at most %d masters.\n", largestCluster)
	}
	_, err := fmt.Printf("\nFrom costs measured on %s.\nOther machines differ, mostly by one factor: measure yours with cmd/bench and scale.\n", capacity.Measured)
	return err
}

// decimal formats a number with the digits that matter.
func decimal(f float64) string {
	if f < 10 {
		return fmt.Sprintf("%.2f", f)
	}
	return grouped(f)
}

// grouped formats a whole number with separators of thousands.
func grouped(f float64) string {
	digits := fmt.Sprintf("%.0f", f)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// memory formats an amount of memory.
func memory(f float64) string { return scaled(f, 1024, "B", "KiB", "MiB", "GiB", "TiB", "PiB") }

// bandwidth formats bytes per second as bits per second.
func bandwidth(f float64) string {
	return scaled(8*f, 1000, "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")
}

// scaled formats a number with the largest unit that it has at least one of.
func scaled(f, step float64, units ...string) string {
	i := 0
	for i < len(units)-1 && f >= step {
		f /= step
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f %s", f, units[0])
	}
	return fmt.Sprintf("%.3g %s", f, units[i])
}
