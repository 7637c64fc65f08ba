package main

import (
	_ "embed"
	"fmt"
)

// schema is the JSON Schema of the configuration file, which a test keeps equal to [configuration].
//
//go:embed gateway.schema.json
var schema string

// gatewaySchema prints the schema.
type gatewaySchema struct{}

// Run prints the schema.
func (gatewaySchema) Run() error {
	_, err := fmt.Print(schema)
	return err
}
