package target

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// slow puts a slow network in front of the server: half of the latency for each direction.
func (s *Server) slow(latency time.Duration) error {
	addr, err := s.Addr()
	if err != nil {
		return fmt.Errorf("--latency: %w", err)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	proxy := toxiproxy.NewProxy(server, "redis", "127.0.0.1:0", addr)
	if err := proxy.Start(); err != nil {
		return err
	}
	s.stops = append(s.stops, proxy.Stop)
	for _, stream := range []string{"upstream", "downstream"} {
		toxic, err := json.Marshal(map[string]any{
			"name": stream, "type": "latency", "stream": stream, "toxicity": 1.0,
			"attributes": map[string]any{"latency": latency.Milliseconds() / 2},
		})
		if err != nil {
			return err
		}
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(string(toxic))); err != nil {
			return err
		}
	}
	s.addr, s.dial = proxy.Listen, single(&redis.Options{Addr: proxy.Listen})
	return nil
}
