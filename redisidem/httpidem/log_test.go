package httpidem_test

import (
	"io"
	"log"
)

// quietLog keeps servers from writing about the panics that tests make on purpose.
func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
