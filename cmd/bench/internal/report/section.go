package report

import (
	"fmt"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// section is one scenario.
type section struct {
	ID       string
	Title    string
	About    string
	Load     string // of the first charts
	Finding  []phrase
	Charts   []*chart
	Failures []fact
	Members  []fact // the contenders, and what each does
	Table    grid
}

// phrase is a piece of a sentence.
type phrase struct {
	Text   string
	Strong bool
}

func newSection(n int, s *result.Scenario, cast map[string]look, wasMeasured bool) section {
	points := measured(s)
	first, shown := chosen(points)
	sec := section{ID: fmt.Sprint("s", n), Title: s.Title, About: s.About, Table: newGrid(s, cast)}
	seen := make(map[string]bool)
	for i := range s.Points {
		p := &s.Points[i]
		if p.Error != "" {
			sec.Failures = append(sec.Failures, fact{Name: fmt.Sprintf("%s (%s)", p.Title, loadOf(p)), Value: p.Error})
		}
		if !seen[p.Contender] && p.About != "" {
			seen[p.Contender] = true
			sec.Members = append(sec.Members, fact{Name: p.Title, Value: p.About})
		}
	}
	if len(points) == 0 {
		return sec
	}
	sec.Load = first.String()
	if wasMeasured {
		sec.Finding = finding(first, s.Timed, shown)
	}
	var throughput *chart
	if !s.Timed {
		throughput = bars("Throughput", "operations per second", shown, cast, true, (*result.Point).Throughput, perSecond)
	}
	if throughput != nil && first.rate > 0 {
		throughput.Note = "Out of " + count(first.rate) + " operations offered per second."
	}
	slowness := latencies(shown, cast)
	if slowness != nil && first.rate > 0 {
		slowness.Note = "From the moment at which each operation was due."
	}
	sec.add(throughput, ratios(shown, cast), slowness,
		bars("Server time", "µs of the server's processor per operation", shown, cast, false, serverCPU, micros))
	for _, d := range dimensions {
		f, ok := familyOf(points, d)
		if !ok {
			continue
		}
		for _, m := range along(d.name) {
			if s.Timed && m.throughput {
				continue
			}
			if c := lines(m, f, cast); c != nil {
				c.Note = f.same.note(d)
				sec.add(c)
			}
		}
	}
	return sec
}

func (s *section) add(charts ...*chart) {
	for _, c := range charts {
		if c != nil {
			s.Charts = append(s.Charts, c)
		}
	}
}

// note describes the parts of the load that were constant along a dimension.
func (l load) note(d dimension) string {
	if d.name != "callers" {
		return "With " + l.String() + "."
	}
	if l.body == 0 {
		return ""
	}
	return "With responses of " + size(float64(l.body)) + "."
}

var (
	throughput = measure{
		title: "Throughput", unit: "operations per second", of: (*result.Point).Throughput, tick: short, text: perSecond, throughput: true,
	}
	p99        = measure{title: "p99 latency", unit: "latency", of: slowest, tick: tickMicros, text: micros, log: true}
	serverTime = measure{
		title: "Server time", unit: "µs of the server's processor per operation", of: serverCPU, tick: short, text: micros,
	}
	recordSpace = measure{title: "Memory", unit: "memory on the server per record", of: recordMemory, tick: size, text: size}
)

// scaled returns the measure on a logarithmic axis.
func (m measure) scaled() measure {
	m.log = true
	return m
}

// along returns the measures to draw along a dimension.
func along(name string) []measure {
	switch name {
	case "callers":
		return []measure{throughput, p99}
	case "offered rate":
		return []measure{p99, serverTime}
	case "records":
		return []measure{serverTime, throughput}
	default: // sizes, and thus the results, span orders of magnitude
		return []measure{serverTime.scaled(), throughput.scaled(), recordSpace.scaled(), p99}
	}
}

func serverCPU(p *result.Point) result.Spread    { return exact(p.Cost.ServerCPU) }
func recordMemory(p *result.Point) result.Spread { return exact(p.Cost.RecordMemory) }

func slowest(p *result.Point) result.Spread {
	return p.Latency(func(l result.Latency) float64 { return l.P99 })
}

// exact returns the spread of a number that is known only for all samples together.
func exact(f float64) result.Spread { return result.Spread{Median: f, Low: f, High: f} }

func tickMicros(us float64) string {
	switch {
	case us >= 1e6:
		return short(us/1e6) + thin + "s"
	case us >= 1e3:
		return short(us/1e3) + thin + "ms"
	}
	return short(us) + thin + "µs"
}
