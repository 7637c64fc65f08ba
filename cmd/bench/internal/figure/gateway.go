package figure

import (
	"context"
	"fmt"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/scenario"
)

// gateway measures figure 8. Client, gateway or proxy, upstream and server are processes of their
// own.
func (m *measurement) gateway(ctx context.Context) error {
	const callers = 64
	s, ok := scenario.ByName("gateway")
	if !ok {
		return fmt.Errorf("scenario gateway does not exist")
	}
	var all []contestant
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	for _, kind := range contender.Forwarders(body) {
		c, end, err := contestantOf(ctx, m.near, kind, s, callers, "figure8-")
		if err != nil {
			return err
		}
		ends = append(ends, end)
		all = append(all, c)
	}
	samples, err := m.turns(ctx, "gateway", m.near, all...)
	if err != nil {
		return err
	}
	bare, unprotected, protected := samples[0], samples[1], samples[2]
	m.add(8, "gateway against a bare reverse proxy, 64 callers, nothing protected", ratio(unprotected, bare), 0.95, false, "x")
	m.add(8, "... protected", ratio(protected, bare), 0.6, false, "x")
	return m.near.Empty(ctx, "figure")
}
