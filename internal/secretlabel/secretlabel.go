// Package secretlabel decides which Secrets a Tenant may name. The author of a Tenant can name any Secret of the
// namespace, and send its content to an agent or a store of their choice. A required label makes this the decision of
// a person who may edit the Secret.
package secretlabel

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Values of the operator's setting other than a label.
const (
	// Auto requires Default in an installation that had no Tenant when the database learned of the setting.
	Auto = "auto"
	// None requires no label.
	None = "none"
)

// Default is the label that Auto requires.
var Default = Label{Key: "voice.caly.dev/use", Value: "tenant"}

// Label that a Secret must have. The zero value allows every Secret.
type Label struct{ Key, Value string }

// Allows reports whether a Secret with these labels may be named by a Tenant.
func (l Label) Allows(labels map[string]string) bool {
	return l.Key == "" || labels[l.Key] == l.Value
}

// String returns the label as kubectl takes it.
func (l Label) String() string { return l.Key + "=" + l.Value }

// Parse returns the label of a setting: "none", or key=value.
func Parse(setting string) (Label, error) {
	if setting == None {
		return Label{}, nil
	}
	key, value, ok := strings.Cut(setting, "=")
	if !ok || value == "" {
		return Label{}, fmt.Errorf("%q is not auto, none or a label such as %s", setting, Default)
	}
	if faults := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(faults) > 0 {
		return Label{}, errors.New(strings.Join(faults, "; "))
	}
	return Label{Key: key, Value: value}, nil
}

// Resolve is Parse with the answer for "auto": isNew reports whether the installation requires labels by default.
func Resolve(ctx context.Context, setting string, isNew func(context.Context) (bool, error)) (Label, error) {
	if setting != Auto {
		return Parse(setting)
	}
	require, err := isNew(ctx)
	if err != nil || !require {
		return Label{}, err
	}
	return Default, nil
}
