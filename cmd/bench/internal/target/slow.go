package target

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// slow puts a slow network in front of the server. Each direction has half of the latency, in whole
// milliseconds.
func (s *Server) slow(latency time.Duration) error {
	if s.alone == nil || s.alone.Network != "tcp" {
		return errors.New("--latency: needs a single server on TCP")
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	proxy := toxiproxy.NewProxy(server, "redis", "127.0.0.1:0", s.alone.Addr)
	if err := proxy.Start(); err != nil {
		return err
	}
	s.stops = append(s.stops, proxy.Stop)
	ms := latency.Milliseconds()
	for stream, share := range map[string]int64{"upstream": (ms + 1) / 2, "downstream": ms / 2} {
		toxic, err := json.Marshal(map[string]any{
			"name": stream, "type": "latency", "stream": stream, "toxicity": 1.0, "attributes": map[string]any{"latency": share},
		})
		if err != nil {
			return err
		}
		if _, err := proxy.Toxics.AddToxicJson(bytes.NewReader(toxic)); err != nil {
			return err
		}
	}
	far := *s.alone
	far.Addr = proxy.Listen
	s.single(&far)
	return nil
}
