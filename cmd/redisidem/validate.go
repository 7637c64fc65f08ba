package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
)

// gatewayValidate checks the configuration of a gateway.
type gatewayValidate struct {
	File string `arg:"" optional:"" help:"Configuration file, in place of --config."`
}

// Run checks all settings as a gateway does that starts, with the files that they name. It calls
// neither Redis nor the upstream, and does not need the URL of a Redis, which is often a secret.
func (gatewayValidate) Run(ctx context.Context, c *gatewayCommand) error {
	log := slog.New(slog.DiscardHandler)
	a, err := c.assemble(log, gateway.NewMetrics())
	if err != nil {
		return err
	}
	result := "the configuration is valid"
	if c.Redis == "" {
		result += ", except that --redis (or REDIS_URL) is not set"
		c.Redis = "redis://127.0.0.1:6379" // it is not called
	}
	g, pages, stop, err := c.open(ctx, a, log)
	if err != nil {
		return err
	}
	defer stop()
	g.Close()
	if pages != nil {
		pages.Close()
	}
	if err := a.gateway.Service.Close(ctx); err != nil {
		return err
	}
	_, err = fmt.Println(result)
	return err
}
