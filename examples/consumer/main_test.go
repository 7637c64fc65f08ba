package main

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/redisidem/redisidem/internal/leak"
)

func TestMain(m *testing.M) {
	if !isWorker() {
		leak.Main(m)
	}
	if err := run(context.Background(), os.Stdout); err != nil {
		panic(err)
	}
}

func TestMessageOfAKilledWorkerIsHandledByTheNextOne(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := produce(t.Context(), &out, ""); err != nil {
		t.Fatalf("%v, after\n%s", err, &out)
	}
	const want = `book 1: ship, attempt 1
book 1: parcel with book 1, replayed: false
book 2: ship, attempt 1
book 2: parcel with book 2, replayed: false
book 2: parcel with book 2, replayed: true
book 3: ship, attempt 1
the worker has ended: signal: killed
book 3: ship, attempt 2
book 3: parcel with book 3, replayed: false
the worker has ended: exit status 0
`
	if out.String() != want {
		t.Errorf("it prints\n%s", &out)
	}
}
