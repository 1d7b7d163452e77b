package main

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig/watch"
)

var updateOpenAPI = flag.Bool("update", false, "write docs/openapi.json again")

// document is the OpenAPI document that a data plane serves.
func document(t *testing.T) []byte {
	t.Helper()
	var o apiOptions
	o.addTo(pflag.NewFlagSet("", pflag.ContinueOnError)) // the defaults
	log := slog.New(slog.DiscardHandler)
	settings, err := o.settings()
	if err != nil {
		t.Fatal(err)
	}
	parts := apiParts{
		db:       &pools{api: new(store.Dataplane), limits: new(store.Dataplane)},
		watcher:  watch.New(nil, "", log),
		registry: prometheus.NewRegistry(),
		log:      log,
	}
	return newTenantAPI(settings, parts).handler.Document()
}

// TestOpenAPICopy verifies that the copy in the documentation equals the document that the data plane serves.
func TestOpenAPICopy(t *testing.T) {
	const file = "../../docs/openapi.json"
	want := document(t)
	if *updateOpenAPI {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, have) {
		t.Errorf(
			"%s is stale: go test ./cmd/caly -run TestOpenAPICopy -update (-want +got):\n%s",
			file,
			cmp.Diff(string(want), string(have)),
		)
	}
}
