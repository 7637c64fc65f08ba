package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// routesCommand prints what became of requests, by route.
type routesCommand struct {
	Gateways []string      `arg:"" optional:"" default:"http://127.0.0.1:8081" name:"gateway" help:"URL of a gateway's admin listener. The counts of several gateways are added up."`
	Result   []string      `placeholder:"RESULT" help:"Only requests with these results, such as in-flight (another request with the key was under way) and mismatch (the key was used for another request)."`
	Timeout  time.Duration `default:"5s" help:"Timeout of the request to each gateway."`
	Output   string        `enum:"table,json" default:"table" short:"o" help:"Print tables for people, or one JSON object on each line."`
}

// routeCount is how many requests of a route had a result.
type routeCount struct {
	Route    string `json:"route"`
	Result   string `json:"result"`
	Requests int64  `json:"requests"`
}

// maxMetricsBytes bounds the metrics that are read from a gateway.
const maxMetricsBytes = 64 << 20

// Run prints the counts.
func (c *routesCommand) Run(ctx context.Context) error {
	type row struct{ route, result string }
	sums := make(map[row]int64)
	for _, at := range c.Gateways {
		u, err := url.Parse(at)
		if err != nil {
			return errors.New("a gateway's URL cannot be parsed") // it may have a password
		}
		family, err := c.read(ctx, at)
		if err != nil {
			return fmt.Errorf("%s: %w", u.Redacted(), err)
		}
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if len(c.Result) == 0 || slices.Contains(c.Result, labels["result"]) {
				sums[row{labels["route"], labels["result"]}] += int64(m.GetCounter().GetValue())
			}
		}
	}
	counts := make([]routeCount, 0, len(sums))
	for r, n := range sums {
		counts = append(counts, routeCount{r.route, r.result, n})
	}
	slices.SortFunc(counts, func(a, b routeCount) int {
		return cmp.Or(strings.Compare(a.Route, b.Route), cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Result, b.Result))
	})
	r := newRows(c.Output, "ROUTE RESULT REQUESTS")
	for _, n := range counts {
		r.add(n, cut(n.Route, 60), n.Result, strconv.FormatInt(n.Requests, 10))
	}
	return r.flush()
}

// read returns the counts of one gateway.
func (c *routesCommand) read(ctx context.Context, gateway string) (*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(gateway, "/")+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics has status %d: give the URL of the admin listener", response.StatusCode)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(response.Body, maxMetricsBytes))
	if err != nil {
		return nil, fmt.Errorf("/metrics: %w", err)
	}
	return families["redisidem_http_results_total"], nil
}
