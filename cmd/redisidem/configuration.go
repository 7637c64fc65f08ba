package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
)

// configuration is the content of a configuration file.
type configuration struct {
	settings         `yaml:",inline"`
	gateway.Policies `yaml:",inline"`
	JWTIssuers       []issuer `yaml:"jwt_issuers" help:"Issuers of tokens. A scope is then the issuer and the claim, also with one issuer. They take the place of jwt_key, jwt_jwks, jwt_secret, jwt_issuer and jwt_audience."`
}

// issuer is one of several issuers of tokens.
type issuer struct {
	Issuer   string `yaml:"issuer" jsonschema:"required" help:"The issuer that the tokens have."`
	Audience string `yaml:"audience" help:"The audience that the tokens must have."`
	Key      string `yaml:"key" help:"File with the public key or certificate in PEM that verifies the tokens."`
	KeySet   string `yaml:"jwks" help:"File or URL of the JSON Web Key Set that verifies the tokens."`
	Secret   string `yaml:"secret" help:"File with the HMAC secret of at least 32 bytes that verifies the tokens."`
}

// environmentPrefix precedes the name of a flag of the gateway in its environment variable.
const environmentPrefix = "REDISIDEM_"

// gatewayEnvironment gives each flag of the gateway an environment variable.
func gatewayEnvironment() kong.Option {
	return kong.PostBuild(func(k *kong.Kong) error {
		for _, command := range k.Model.Children {
			if command.Name != gatewayName {
				continue
			}
			for _, flag := range command.Flags {
				if len(flag.Envs) == 0 {
					flag.Envs = []string{environmentPrefix + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))}
					flag.Tag.Envs = flag.Envs
				}
			}
		}
		return nil
	})
}

// gatewayName is the name of the gateway's command.
const gatewayName = "gateway"

// fieldOf returns the field of the configuration file that a flag overrides.
func fieldOf(flag *kong.Flag) string {
	name := strings.ReplaceAll(flag.Name, "-", "_")
	if name == consoleField {
		return consoleField + ".enabled"
	}
	if of, ok := strings.CutPrefix(name, consoleField+"_"); ok {
		return consoleField + "." + of
	}
	return name
}

// BeforeResolve reads the configuration file. Its settings apply to the flags that neither the
// command line nor the environment sets.
func (c *gatewayCommand) BeforeResolve(ctx *kong.Context) error {
	name := c.Config // from the environment
	for _, flag := range ctx.Flags() {
		if flag.Name == "config" {
			name = cmp.Or(fmt.Sprint(ctx.FlagValue(flag)), name)
		}
	}
	for _, path := range ctx.Path {
		if path.Positional != nil { // the FILE of gateway validate
			name = fmt.Sprint(ctx.Value(path))
		}
	}
	if name == "" {
		return nil
	}
	c.configName = name
	values, err := c.read(name, ctx.Flags())
	if err != nil {
		return &fileError{err}
	}
	c.fromFile = make(map[string]bool)
	// It is called for the flags that the command line does not have.
	ctx.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, variable := range flag.Envs {
			if _, ok := os.LookupEnv(variable); ok {
				return nil, nil //nolint:nilnil // no value of the file
			}
		}
		value, ok := values[fieldOf(flag)]
		if ok {
			top, _, _ := strings.Cut(fieldOf(flag), ".")
			c.fromFile[top] = true
		}
		return value, nil
	}))
	return nil
}

// fileError is an error of the configuration file, and not of the command line.
type fileError struct{ error }

func (e *fileError) Unwrap() error { return e.error }

// parseGateway parses a command line of the gateway, and reads its configuration file.
func parseGateway(args []string) (*gatewayCommand, error) {
	var c cli
	parser, err := newParser(&c)
	if err != nil {
		return nil, err
	}
	if _, err := parser.Parse(args); err != nil {
		return nil, err
	}
	return &c.Gateway, nil
}

// read reads the configuration file, and returns its values for flags.
func (c *gatewayCommand) read(name string, flags []*kong.Flag) (map[string]any, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	c.configText = text
	if c.file, err = configfile.Parse(name, text); err != nil {
		return nil, err
	}
	if err := c.file.Decode(&c.content); err != nil {
		return nil, err
	}
	fields := make([]string, len(flags))
	for i, flag := range flags {
		fields[i] = fieldOf(flag)
	}
	values, err := c.file.Values(fields)
	if err != nil {
		return nil, err
	}
	for field, value := range values {
		if _, ok := value.([]any); !ok {
			values[field] = fmt.Sprint(value)
		}
	}
	return values, nil
}

// explain returns an error of a setting with the place where the setting was made: the position in
// the configuration file, or the flag.
func (c *gatewayCommand) explain(err error) error {
	var field *configfile.FieldError
	if !errors.As(err, &field) {
		return err
	}
	name := topField(field)
	if c.fromFile[name] || c.file != nil && slices.Contains([]string{"defaults", "routes", "jwt_issuers"}, name) {
		return c.file.Locate(err)
	}
	return flagError(err)
}

// flagError returns an error of a field as one of the flag with the same name.
func flagError(err error) error {
	var field *configfile.FieldError
	if !errors.As(err, &field) {
		return err
	}
	return fmt.Errorf("--%s: %w", strings.ReplaceAll(topField(field), "_", "-"), field.Err)
}

// topField returns the first name of a field's path.
func topField(e *configfile.FieldError) string {
	if end := strings.IndexAny(e.Field, ".["); end >= 0 {
		return e.Field[:end]
	}
	return e.Field
}
