// Command consumer handles the messages of a queue, each once, although a worker is killed in the
// middle of one. The queue is a stream in Redis. Without REDIS_URL it brings its own Redis.
//
//	go run ./examples/consumer
//	REDIS_URL=redis://localhost:6379 go run ./examples/consumer
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run is the main function of the program, and of the workers that it starts.
func run(ctx context.Context, out io.Writer) error {
	url := os.Getenv("REDIS_URL")
	if isWorker() {
		return work(ctx, out, url)
	}
	return produce(ctx, out, url)
}

func isWorker() bool { return len(os.Args) > 1 && os.Args[1] == "worker" }

// produce fills the queue, and starts two workers, one after the other. The first one dies.
func produce(ctx context.Context, out io.Writer, url string) error {
	if url == "" {
		server, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer server.Close()
		server.ClockTTL(true) // leases end by themselves, as on a real server
		url = "redis://" + server.Addr()
	}
	opts, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	rdb := redis.NewClient(opts)
	defer func() { _ = rdb.Close() }()
	if err := rdb.Del(ctx, stream).Err(); err != nil {
		return err
	}
	if err := rdb.XGroupCreateMkStream(ctx, stream, group, "0").Err(); err != nil {
		return err
	}
	prefix := fmt.Sprintf("run %d, order ", os.Getpid())
	for _, order := range []string{"1", "2", "2", "3"} { // the producer sends order 2 twice
		if err := rdb.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []string{"id", prefix + order, "item", "book " + order}}).Err(); err != nil {
			return err
		}
	}
	for _, dies := range []string{"book 3", ""} {
		program, err := os.Executable()
		if err != nil {
			return err
		}
		worker := exec.CommandContext(ctx, program, "worker")
		worker.Env = append(os.Environ(), "REDIS_URL="+url, "DIES_AT="+dies)
		worker.Stdout, worker.Stderr = out, out
		err = worker.Run()
		fmt.Fprintln(out, "the worker has ended:", cmp.Or(worker.ProcessState.String(), fmt.Sprint(err)))
	}
	return nil
}
