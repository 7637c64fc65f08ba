package gateway

import (
	"context"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// defaultRoute is the label of requests that match no pattern of the routes.
const defaultRoute = "default"

// label returns the pattern of the route with this index, as a label.
func (r *Policies) label(i int) string {
	if i < 0 || i >= len(r.Routes) {
		return defaultRoute
	}
	return r.Routes[i].Match
}

// resultLabel returns the result of a request as a label: a word of [httpidem.Result],
// "interrupted" if the gateway refused it because the outcome of an earlier attempt is unknown,
// "in-flight" also if that attempt may still be at work, or "unprotected" if its route is not
// protected.
func (n *requestLog) resultLabel() string {
	switch {
	case n.interrupted:
		return "interrupted"
	case n.openAttempt:
		return httpidem.ResultInFlight.String()
	case n.result == 0:
		return "unprotected"
	}
	return n.result.String()
}

// count counts the result of a request whose client was answered.
func (m *Metrics) count(ctx context.Context, n *requestLog, took time.Duration) {
	result := n.resultLabel()
	m.results.WithLabelValues(n.route, result, "false").Inc()
	observe(ctx, m.times.WithLabelValues(n.route, result), took.Seconds())
}

// countLate counts the result of a request whose client was answered before.
func (m *Metrics) countLate(n *requestLog, result httpidem.Result) {
	m.results.WithLabelValues(n.route, result.String(), strconv.FormatBool(true)).Inc()
}
