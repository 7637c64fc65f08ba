package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// promtoolVariable makes a missing promtool fail the test.
const promtoolVariable = "REDISIDEM_REQUIRE_PROMTOOL"

const alertsFile = "../../deploy/prometheus/alerts.yml"

// alert is a rule of the alerts.
type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string  `yaml:"name"`
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	text, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("%d alerts", len(all))
	}
	return all
}

// dashboards returns the expressions of all dashboards, by the title of their panel.
func dashboards(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := make(map[string]string)
	for _, name := range files {
		var board struct {
			Title  string
			Panels []struct {
				Title, Type string
				Targets     []struct{ Expr, RefID string }
			}
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, panel := range board.Panels {
			if panel.Type != "row" && len(panel.Targets) == 0 {
				t.Errorf("%s: the panel %q shows nothing", name, panel.Title)
			}
			for _, target := range panel.Targets {
				all[fmt.Sprint(name, " ", panel.Title, " ", target.RefID)] = strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")
			}
		}
	}
	return all
}

// TestRulesAreValid asks promtool about the alerts and the expressions of the dashboards, and runs
// the tests of the alerts.
func TestRulesAreValid(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv(promtoolVariable) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	var rules strings.Builder
	rules.WriteString("groups: [{name: dashboards, rules: [")
	boards := dashboards(t)
	for i, where := range slices.Sorted(maps.Keys(boards)) {
		expr, err := json.Marshal(boards[where])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&rules, "{record: 'panel:%d', expr: %s},\n", i, expr)
	}
	rules.WriteString("]}]\n")
	file := filepath.Join(t.TempDir(), "dashboards.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "rules", alertsFile}, {"check", "rules", file}, {"test", "rules", "../../deploy/prometheus/alerts_test.yml"},
	} {
		if text, err := exec.Command(promtool, args...).CombinedOutput(); err != nil { //nolint:gosec // files of this test
			t.Errorf("%v: %v: %s", args, err, text)
		}
	}
}

// TestAlertsHaveARunbook checks that docs/alerts.md describes each alert.
func TestAlertsHaveARunbook(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	all := alerts(t)
	described := regexp.MustCompile(`(?m)^## (Redisidem\w+)$`).FindAllStringSubmatch(string(text), -1)
	for _, a := range all {
		if !slices.ContainsFunc(described, func(m []string) bool { return m[1] == a.Alert }) {
			t.Errorf("docs/alerts.md has no section %s", a.Alert)
		}
		if want := "docs/alerts.md#" + strings.ToLower(a.Alert); a.Annotations["runbook"] != want {
			t.Errorf("the runbook of %s is %q, want %q", a.Alert, a.Annotations["runbook"], want)
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || a.Labels["severity"] == "" {
			t.Errorf("%s lacks a text or its severity", a.Alert)
		}
	}
	if len(described) != len(all) {
		t.Errorf("docs/alerts.md describes %d alerts of %d", len(described), len(all))
	}
}

// TestMetricsOfTheRulesExist has a gateway and a completer, and compares what alerts and dashboards
// name with a scrape.
func TestMetricsOfTheRulesExist(t *testing.T) {
	t.Parallel()
	addr := rediscase.Server(t).Addr()
	p := start(t, addr, "--upstream", newUpstream(t, nil).URL, "--scope", "unscoped")
	mustPost(t, p.url, "k")
	dieAsDeadLetter(t, addr)
	status, text := get(t, p.admin+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	exists := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^(redisidem_\w+?)(_bucket|_sum|_count)?[{ ]`).FindAllStringSubmatch(text, -1) {
		exists[m[1]] = true
	}
	named := dashboards(t)
	for _, a := range alerts(t) {
		named[a.Alert] = a.Expr
	}
	names := regexp.MustCompile(`redisidem_\w+`)
	for where, expr := range named {
		found := names.FindAllString(expr, -1)
		if len(found) == 0 {
			t.Errorf("%s names no metric", where)
		}
		for _, name := range found {
			if !exists[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s names %s, which the gateway does not have", where, name)
			}
		}
	}
	if want := `redisidem_dead_letters{flow="order"} 1`; !strings.Contains(text, want) {
		t.Errorf("the scrape lacks %s", want)
	}
}

// TestAlertsSeeTheFirstEvent compares the counters whose increase or rate an alert uses with a
// scrape of a gateway that has done nothing: Prometheus sees no increase in the first value of a
// series.
func TestAlertsSeeTheFirstEvent(t *testing.T) {
	t.Parallel()
	p := start(t, rediscase.Server(t).Addr(), "--upstream", newUpstream(t, nil).URL, "--scope", "unscoped")
	status, text := get(t, p.admin+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	selector := regexp.MustCompile(`(?:increase|rate)\((\w+)(?:\{([^}]*)\})?\[`)
	found := 0
	for _, a := range alerts(t) {
		for _, m := range selector.FindAllStringSubmatch(a.Expr, -1) {
			found++
			if !hasSeries(text, m[1], m[2]) {
				t.Errorf("%s: a gateway begins without %s{%s}", a.Alert, m[1], m[2])
			}
		}
	}
	if found < 8 {
		t.Errorf("%d selectors", found)
	}
}

// hasSeries reports whether a scrape has a series of the metric that these matchers of labels
// select.
func hasSeries(scrape, metric, matchers string) bool {
	for _, series := range regexp.MustCompile(`(?m)^`+metric+`(?:\{.*\})? `).FindAllString(scrape, -1) {
		matches := true
		for _, m := range regexp.MustCompile(`(\w+)(=~?)"([^"]*)"`).FindAllStringSubmatch(matchers, -1) {
			value := regexp.QuoteMeta(m[3])
			if m[2] == "=~" {
				value = "(?:" + m[3] + ")"
			}
			matches = matches && regexp.MustCompile(`[{,]`+m[1]+`="`+value+`"[,}]`).MatchString(series)
		}
		if matches {
			return true
		}
	}
	return false
}

// dieAsDeadLetter makes a dead letter of the flow order, with a completer that scans its shards.
func dieAsDeadLetter(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dead := make(chan struct{}, 1)
	svc, err := redisidem.Open(ctx, "redis://"+addr, &redisidem.Config{Timeout: 5 * time.Second, Observer: onDeadLetter(dead)})
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("the provider is away")
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "order", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return redisidem.Outcome{}, failed }},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Scope("a").DoFlow(ctx, "k", redisidem.Request{Method: "POST"}, flow); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, &redisidem.CompleterConfig{Interval: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- completer.Run(run) }()
	select {
	case <-dead:
	case <-ctx.Done():
		t.Error("the key does not become a dead letter")
	}
	stop()
	if err := errors.Join(<-ended, svc.Close(context.WithoutCancel(ctx))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// onDeadLetter is an observer that reports dead letters.
type onDeadLetter chan struct{}

func (o onDeadLetter) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventDeadLettered {
		o <- struct{}{}
	}
}
