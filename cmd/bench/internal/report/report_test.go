package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

func fixture(t *testing.T) *result.Run {
	t.Helper()
	r, err := result.Read("testdata/run.json")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func render(t *testing.T, r *result.Run) string {
	t.Helper()
	var out bytes.Buffer
	if err := HTML(&out, r); err != nil {
		t.Fatal(err)
	}
	// REPORT_HTML names a file to which the page is written for inspection.
	if path := os.Getenv("REPORT_HTML"); path != "" && t.Name() == "TestReportShowsEverything" {
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestReportShowsEverything(t *testing.T) {
	t.Parallel()
	r := fixture(t)
	page := render(t, r)
	for _, s := range r.Scenarios {
		if !strings.Contains(page, ">"+html.EscapeString(s.Title)) {
			t.Errorf("there is no %q", s.Title)
		}
	}
	root := parse(t, page)
	sections := elements(root, "section")
	if len(sections) != len(r.Scenarios)+1 {
		t.Fatalf("there are %d sections", len(sections))
	}
	for i, s := range r.Scenarios {
		said := text(sections[i+1])
		var drawn strings.Builder
		for _, svg := range elements(sections[i+1], "svg") {
			drawn.WriteString(text(svg))
		}
		for _, p := range s.Points {
			if !strings.Contains(said, p.Title) || !strings.Contains(said, p.About) {
				t.Errorf("%s does not name %q", s.Title, p.Title)
			}
			if p.Error != "" && !strings.Contains(said, p.Error) {
				t.Errorf("%s does not tell that %s failed", s.Title, p.Title)
			}
			if p.Error == "" && !strings.Contains(drawn.String(), p.Title) {
				t.Errorf("no chart of %s has %q", s.Title, p.Title)
			}
		}
		if rows := len(elements(elements(sections[i+1], "tbody")[0], "tr")); rows != len(s.Points) {
			t.Errorf("the table of %s has %d rows for %d points", s.Title, rows, len(s.Points))
		}
	}
	for _, f := range r.Figures {
		if !strings.Contains(text(sections[0]), f.Title) {
			t.Errorf("there is no figure %q", f.Title)
		}
	}
	for _, want := range []string{
		"5 of 7 pass", "Redis 7.0.15, standalone", "14 March 2026, 09:26 UTC", "19m47s", "1\u202f412\u202f000",
		"Throughput against callers", "Throughput against redislock by hand", "Server time against records", "Server time against body size",
		"p99 latency against offered rate", "operations per second", "µs of the server's processor per operation",
	} {
		if !strings.Contains(text(root), want) {
			t.Errorf("there is no %q", want)
		}
	}
	if strings.Contains(page, "orrectness only") {
		t.Error("a measurement is called none")
	}
}

func TestReportBeginsWithThePromise(t *testing.T) {
	t.Parallel()
	r := fixture(t)
	r.Machine.LoadBefore, r.Machine.LoadAfter, r.SampleSeconds, r.Latency = 0.5, 2.25, 0.3, 2
	promise := func(title string, runs int, first, last result.Late) result.Promise {
		return result.Promise{Title: title, Callers: 16, Runs: runs, Answers: runs, LateFirst: first, LateLast: last}
	}
	r.Promises = []result.Promise{
		promise("ours", 1, result.LateRefused, result.LateRefused),
		promise("by hand", 1, result.LateStored, result.LateRefused),
		promise("of a process", 2, result.LateUnaware, result.LateStored),
		promise("neither", 1, result.LateStored, result.LateStored),
		promise("unaware", 1, result.LateUnaware, result.LateRefused),
		{Title: "absent", Error: "no address", Skipped: true},
	}
	root := parse(t, render(t, r))
	section := elements(root, "section")[0]
	for _, want := range []string{
		"1 of 6 keep it", "16 callers of two replicas",
	} {
		if !strings.Contains(text(section), want) {
			t.Errorf("there is no %q", want)
		}
	}
	want := []string{
		"ours ran once refused kept",
		"by hand ran once if it is ready first, its answer is stored and the holder's lost broken",
		"of a process ran 2 times, 2 different answers its answer overwrites the stored one broken",
		"neither ran once its answer is stored, first or last broken",
		"unaware ran once gets no error, although its answer is not stored broken",
		"absent no address not shown",
	}
	for i, row := range elements(elements(section, "tbody")[0], "tr") {
		var cells []string
		for cell := range row.ChildNodes() {
			cells = append(cells, text(cell))
		}
		if got := strings.Join(strings.Fields(strings.Join(cells, " ")), " "); got != want[i] {
			t.Errorf("%q, want %q", got, want[i])
		}
	}
	facts := text(elements(root, "dl")[0])
	for _, want := range []string{"Commit", "3f2c9a51d07e", "Samples", "of 300ms for each point", "0.5 before, 2.2 at the end", "2\u202fms for each round trip"} {
		if !strings.Contains(facts, want) {
			t.Errorf("there is no %q in %s", want, facts)
		}
	}
}

func TestBestValueComesFirst(t *testing.T) {
	t.Parallel()
	s := result.Scenario{Title: "Sorted", Points: []result.Point{
		sampled("slow", false, 10), sampled("fast", false, 30), sampled("middle", false, 20),
	}}
	for i := range s.Points {
		s.Points[i].Cost.ServerCPU = 100 / s.Points[i].Samples[0].PerSecond
	}
	root := parse(t, render(t, &result.Run{Measured: true, Scenarios: []result.Scenario{s}}))
	for _, figure := range elements(root, "figure") {
		title := text(elements(figure, "h3")[0])
		var names []string
		for _, node := range elements(figure, "text") {
			if attribute(node, "class") == "name" {
				names = append(names, strings.TrimSpace(text(node)))
			}
		}
		if strings.Join(names, " ") != "fast middle slow" {
			t.Errorf("%s: %v", title, names)
		}
	}
}

// TestReportKnowsItsOwnInEveryForm checks that the table and the finding treat the middleware
// as this library's own.
func TestReportKnowsItsOwnInEveryForm(t *testing.T) {
	t.Parallel()
	r := &result.Run{Measured: true, Scenarios: []result.Scenario{{Title: "HTTP", Points: []result.Point{
		sampled("floor", false, 2000, 2100), sampled("http-redisidem", true, 900, 950),
	}}}}
	root := parse(t, render(t, r))
	if !slices.ContainsFunc(elements(root, "tr"), func(n *html.Node) bool {
		return attribute(n, "class") == "own" && strings.Contains(text(n), "http-redisidem")
	}) {
		t.Error("the middleware is a rival in the table")
	}
	if said := findingOf(t, root); !strings.Contains(said, "http-redisidem") {
		t.Errorf("the sentence is %q", said)
	}
}

func TestSentenceGoesByEachRepetition(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		timed    bool
		points   []result.Point
		has, not []string
	}{
		{
			// The machine was ten times slower in the last repetition, but the ratio is still five.
			"RestlessMachine", false,
			[]result.Point{sampled("rival", false, 1000, 1100, 100), sampled("redisidem", true, 5000, 5500, 500)},
			[]string{"redisidem  comes first in each repetition"},
			[]string{"not ahead"},
		},
		{
			"Near", false,
			[]result.Point{sampled("rival", false, 1000, 1100, 1300), sampled("redisidem", true, 1200, 1250, 1280)},
			[]string{"redisidem :", "not ahead in each repetition of  rival"},
			[]string{"comes first"},
		},
		{
			"Floor", false,
			[]result.Point{sampled("floor", false, 9000, 9100), sampled("rival", false, 500, 600), sampled("redisidem", true, 1200, 1250)},
			[]string{"redisidem  comes first", "cannot replay an answer: floor."},
			[]string{"floor  comes first", "of  floor"},
		},
		{
			"Timed", true,
			[]result.Point{sampled("rival", false, 1000, 1100), sampled("redisidem", true, 900, 1000)},
			[]string{"99 % of the operations within"},
			[]string{"operations per second", "redisidem  comes first"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := result.Scenario{Title: "s", Timed: test.timed, Points: test.points}
			page := parse(t, render(t, &result.Run{Measured: true, Scenarios: []result.Scenario{s}}))
			said := findingOf(t, page)
			for _, want := range test.has {
				if !strings.Contains(said, want) {
					t.Errorf("there is no %q in %q", want, said)
				}
			}
			for _, no := range test.not {
				if strings.Contains(said, no) {
					t.Errorf("there is %q in %q", no, said)
				}
			}
			if drawn := strings.Contains(text(page), "Throughput"); drawn == test.timed {
				t.Errorf("throughput is drawn: %v", drawn)
			}
		})
	}
}

// sampled makes a point with the operations per second of each repetition.
func sampled(contender string, own bool, perSecond ...float64) result.Point {
	p := result.Point{Contender: contender, Title: contender, Own: own, Replays: contender != "floor", Callers: 8, BodyBytes: 200}
	for _, v := range perSecond {
		latency := result.Latency{P50: 1e6 / v, P90: 1e6 / v, P99: 1e6 / v, P999: 1e6 / v, Max: 1e6 / v}
		p.Samples = append(p.Samples, result.Sample{Operations: int64(v), Seconds: 1, PerSecond: v, Latency: latency})
	}
	return p
}

// findingOf returns the finding of a page's only section.
func findingOf(t *testing.T, root *html.Node) string {
	t.Helper()
	for _, p := range elements(root, "p") {
		if attribute(p, "class") == "finding" {
			return text(p)
		}
	}
	t.Fatal("there is no sentence")
	return ""
}

func TestReportNeedsNothingElse(t *testing.T) {
	t.Parallel()
	page := render(t, fixture(t))
	for _, no := range []string{"http://", "https://", "url(", "@import", "<script", "<link", "<img", "src=", "onload"} {
		if strings.Contains(page, no) {
			t.Errorf("there is a %q", no)
		}
	}
	for _, a := range elements(parse(t, page), "a") {
		if !strings.HasPrefix(attribute(a, "href"), "#") {
			t.Errorf("a link leads to %q", attribute(a, "href"))
		}
	}
}

func TestReportEscapesWhatItShows(t *testing.T) {
	t.Parallel()
	const bad = `</title></svg><script>alert("1")</script>`
	r := fixture(t)
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		s.Title, s.About = bad, bad
		for j := range s.Points {
			s.Points[j].Title, s.Points[j].About = bad, bad
		}
	}
	for i := range r.Figures {
		r.Figures[i].Title, r.Figures[i].Unit = bad, bad
	}
	r.Machine, r.Command = result.Machine{Server: bad, CPU: bad, Version: bad}, []string{bad}
	page := render(t, r)
	if strings.Contains(page, "<script") || len(elements(parse(t, page), "script")) > 0 {
		t.Error("there is a script")
	}
}

func TestReportSaysWhenNothingWasMeasured(t *testing.T) {
	t.Parallel()
	r := fixture(t)
	r.Measured = false
	said := text(parse(t, render(t, r)))
	if !strings.Contains(said, "Correctness only, not a measurement.") || !strings.Contains(said, "not measured") {
		t.Error("nothing warns")
	}
	for _, no := range []string{"comes first", "of 7 pass"} {
		if strings.Contains(said, no) {
			t.Errorf("it says %q of what is no measurement", no)
		}
	}
}

func TestReportSaysWhenTheRunWasInterrupted(t *testing.T) {
	t.Parallel()
	r := fixture(t)
	if said := text(parse(t, render(t, r))); strings.Contains(said, "Incomplete") {
		t.Error("a whole run is called incomplete")
	}
	r.Incomplete = true
	if said := text(parse(t, render(t, r))); !strings.Contains(said, "Incomplete.") {
		t.Error("nothing warns")
	}
}

func TestReportOfLittle(t *testing.T) {
	t.Parallel()
	one := result.Point{Contender: "a", Title: "a", Callers: 1, Samples: []result.Sample{{}}}
	failed := result.Point{Contender: "b", Title: "b", Callers: 1, Error: "gone"}
	for name, r := range map[string]*result.Run{
		"Nothing":     {},
		"NoPoints":    {Measured: true, Scenarios: []result.Scenario{{Title: "s"}}},
		"Zeros":       {Measured: true, Scenarios: []result.Scenario{{Title: "s", Points: []result.Point{one}}}, Figures: []result.Figure{{}}},
		"Failed":      {Measured: true, Scenarios: []result.Scenario{{Title: "s", Points: []result.Point{failed}}}},
		"ZeroAndMore": {Measured: true, Scenarios: []result.Scenario{{Title: "s", Points: []result.Point{one, failed, one}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wellFormed(t, render(t, r))
		})
	}
}

func TestReportDrawsGrowthFromNothing(t *testing.T) {
	t.Parallel()
	r := fixture(t)
	points := r.Scenarios[2].Points
	for i := range points {
		if points[i].Records == 10_000 {
			points[i].Records = 0
		}
	}
	page := render(t, r)
	wellFormed(t, page)
	if said := text(parse(t, page)); !strings.Contains(said, "records none: ") || !strings.Contains(said, "records 2\u202fM: ") {
		t.Error("growth is not shown from nothing on")
	}
}

func TestReportDrawsWellFormedCharts(t *testing.T) {
	t.Parallel()
	page := render(t, fixture(t))
	wellFormed(t, page)
	for _, svg := range elements(parse(t, page), "svg") {
		if attribute(svg.Parent, "class") == "what" || svg.Parent.Data == "li" {
			continue
		}
		if attribute(svg, "role") != "img" || len(elements(svg, "title")) == 0 || len(elements(svg, "desc")) != 1 || text(elements(svg, "desc")[0]) == "" {
			t.Error("a chart says nothing to who cannot see it")
		}
	}
}

func TestDrawingStandsAlone(t *testing.T) {
	t.Parallel()
	r := fixture(t)
	var out bytes.Buffer
	if err := SVG(&out, r, "lifecycle"); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, out.String())
	for _, want := range []string{
		`xmlns="http://www.w3.org/2000/svg"`, r.Scenarios[0].Title, "times as much as redislock by hand", "--own0",
		"redisidem, auto-pipelined",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q", want)
		}
	}
	if err := SVG(io.Discard, r, "nope"); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("a scenario that is not there: %v", err)
	}
}

func TestReportReturnsTheErrorOfItsWriter(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	gone := errors.New("gone")
	_ = r.CloseWithError(gone) // always nil
	if err := HTML(w, fixture(t)); !errors.Is(err, gone) {
		t.Error(err)
	}
}

var drawing = regexp.MustCompile(`(?s)<svg .*?</svg>`)

// wellFormed checks that each drawing of a page is XML and that its numbers are finite.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	for _, svg := range drawing.FindAllString(page, -1) {
		d := xml.NewDecoder(strings.NewReader(svg))
		d.Entity = xml.HTMLEntity
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in:\n%s", err, svg)
			}
			start, ok := token.(xml.StartElement)
			if !ok {
				continue
			}
			for _, a := range start.Attr {
				if a.Name.Local != "aria-label" && (strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") ||
					(a.Name.Local == "width" || a.Name.Local == "height") && strings.HasPrefix(a.Value, "-")) {
					t.Errorf("<%s %s=%q>", start.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func elements(root *html.Node, name string) []*html.Node {
	var all []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == name {
			all = append(all, n)
		}
	}
	return all
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(root *html.Node) string {
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
			b.WriteByte(' ')
		}
	}
	return b.String()
}
