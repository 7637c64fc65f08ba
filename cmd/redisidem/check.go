package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// checkCommand prints what the library thinks of a Redis.
type checkCommand struct {
	Redis   string        `env:"REDIS_URL" required:"" placeholder:"URL" help:"The Redis to look at."`
	Timeout time.Duration `default:"5s" help:"How long to wait for each answer."`

	Namespace  string        `default:"redisidem" help:"Prefix of all names in Redis, for which rights are needed."`
	Durability int           `help:"Replicas that the programs ask for, which must be in step."`
	Wait       time.Duration `help:"How long the programs wait for keys, which needs rights of its own."`
	CacheBytes int64         `help:"Memory of the programs for copies, which needs rights of its own."`
}

// Run runs the command.
func (c *checkCommand) Run(ctx context.Context) (err error) {
	service, err := redisidem.OpenUnchecked(c.Redis, &redisidem.Config{
		Namespace: c.Namespace, Timeout: c.Timeout, Durability: c.Durability, Wait: c.Wait, CacheBytes: c.CacheBytes,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close(ctx)) }()
	report, err := service.Check(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	for _, f := range report.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Verdict, f.Node, f.Subject, f.Detail)
	}
	return errors.Join(w.Flush(), report.Err())
}
