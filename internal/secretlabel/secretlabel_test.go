package secretlabel

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	for name, tc := range map[string]struct {
		setting   string
		isNew     bool
		err       error
		want      Label
		wantError string
	}{
		"a new installation":        {setting: "auto", isNew: true, want: Default},
		"an installation of before": {setting: "auto"},
		"no database": {
			setting:   "auto",
			err:       errors.New("no database"),
			wantError: "no database",
		},
		"none, in a new installation":        {setting: "none", isNew: true},
		"a label, in an installation before": {setting: "voice.caly.dev/use=tenant", want: Default},
		"another label":                      {setting: "team=voice", want: Label{Key: "team", Value: "voice"}},
		"empty":                              {setting: "", wantError: "is not auto, none or a label"},
		"no value": {
			setting:   "voice.caly.dev/use=",
			wantError: "is not auto, none or a label",
		},
		"no key":                        {setting: "=tenant", wantError: "name part must be non-empty"},
		"a key that is not a label's":   {setting: "a b=tenant", wantError: "alphanumeric characters"},
		"a value that is not a label's": {setting: "use=a b", wantError: "alphanumeric characters"},
	} {
		t.Run(name, func(t *testing.T) {
			isNew := func(context.Context) (bool, error) { return tc.isNew, tc.err }
			got, err := Resolve(t.Context(), tc.setting, isNew)
			if tc.wantError != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantError) {
					t.Fatalf("got %v, want an error with %q", err, tc.wantError)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
}

func TestAllows(t *testing.T) {
	labelled := map[string]string{"voice.caly.dev/use": "tenant", "app": "x"}
	for name, tc := range map[string]struct {
		label  Label
		labels map[string]string
		want   bool
	}{
		"no label required":    {want: true},
		"the label":            {label: Default, labels: labelled, want: true},
		"no labels":            {label: Default},
		"another value":        {label: Default, labels: map[string]string{"voice.caly.dev/use": "other"}},
		"an empty value":       {label: Default, labels: map[string]string{"voice.caly.dev/use": ""}},
		"another label's name": {label: Label{Key: "app", Value: "tenant"}, labels: labelled},
	} {
		if got := tc.label.Allows(tc.labels); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
