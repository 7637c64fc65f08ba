package gateway

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// openSpool opens the spool of all routes. Its errors are [configfile.FieldError]s.
func (g *Gateway) openSpool(cfg *httpidem.SpoolConfig) (err error) {
	if g.spool, err = httpidem.NewSpool(cfg); err != nil {
		field := "spool_dir"
		if invalid, ok := errors.AsType[*redisidem.InvalidError](err); ok {
			field = map[string]string{
				"httpidem.SpoolConfig.Above": "spool_above", "httpidem.SpoolConfig.MaxBytes": "spool_bytes",
			}[invalid.Field]
		}
		return configfile.Within(field, err)
	}
	g.metrics.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "redisidem_spool_bytes", Help: "Bytes of the request bodies that are in files.",
	}, func() float64 { return float64(g.spool.Bytes()) }))
	return nil
}
