package gateway

import (
	"errors"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/redisidem"
)

// policyURLField is the setting of all policies with the address of the documentation.
const policyURLField = "policy_url"

// fieldOf returns an error of [httpidem.New] as one of the policy's field that causes it.
func fieldOf(err error) error {
	var invalid *redisidem.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	field, ok := map[string]string{
		"httpidem.Config.Methods":              "methods",
		"httpidem.Config.Key.Prefix":           "key_prefix",
		"httpidem.Config.Key.MaxBytes":         "key_prefix",
		"httpidem.Config.MaxBodyBytes":         "max_body",
		"httpidem.Config.Response.MaxBytes":    "max_response",
		"httpidem.Config.Response.KeepHeaders": "headers",
		"httpidem.Config.ReplayHeader":         "replay_header",
		"httpidem.Config.OtherFingerprints":    "other_fingerprints",
		"httpidem.Config.PolicyURL":            policyURLField,
	}[invalid.Field]
	if !ok {
		return err
	}
	return &configfile.FieldError{Field: field, Err: err}
}

// withinPolicy puts the path of a policy before the field of an error, unless it is a setting of
// all policies.
func withinPolicy(path string, err error) error {
	var field *configfile.FieldError
	if errors.As(err, &field) && field.Field == policyURLField {
		return err
	}
	return configfile.Within(path, err)
}
