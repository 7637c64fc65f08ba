package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthCommand asks a gateway for its health. Images without a shell have no other program for it.
type healthCommand struct {
	URL     string        `arg:"" optional:"" default:"http://127.0.0.1:8081/livez" help:"The page of the gateway's admin listener: /livez, or /readyz for one that should get requests."`
	Timeout time.Duration `default:"3s" help:"How long the gateway may take to answer."`
}

// Run returns an error unless the gateway answers with 200.
func (c *healthCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	const most = 4 << 10 // of the text, which is a few lines
	text, err := io.ReadAll(io.LimitReader(res.Body, most))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", c.URL, res.Status, strings.TrimSpace(string(text)))
	}
	fmt.Println(strings.TrimSpace(string(text)))
	return nil
}
