// Command schemas writes JSON schemas of every kind that the local cluster's own API server knows, Caly's CRDs included, for
// kubeconform:
//
//	KUBEBUILDER_ASSETS=... go run ./hack/schemas DIR
//
// The files are named {kind}-{group}-{version}.json, all in lower case; unknown fields are refused.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/client-go/discovery"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: schemas DIR")
	}
	document, err := fetch(ctx)
	if err != nil {
		return err
	}
	files, err := convert(document)
	if err != nil {
		return err
	}
	return write(args[0], files)
}

// fetch starts an API server with Caly's CRDs and asks it for its OpenAPI document.
func fetch(ctx context.Context) (document []byte, err error) {
	ctrl.SetLogger(logr.Discard())
	env := &envtest.Environment{CRDDirectoryPaths: []string{"config/crd/bases"}, ErrorIfCRDPathMissing: true}
	cfg, err := env.Start()
	if err != nil {
		return nil, fmt.Errorf("start an API server (test/cluster/build.sh envtest builds it): %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return awaitOwnKinds(ctx, client)
}

func write(dir string, files map[string]any) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for name, schema := range files {
		data, err := json.Marshal(schema)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func fileName(kind, group, version string) string {
	name := kind + "-" + version
	if group != "" {
		name = kind + "-" + group + "-" + version
	}
	return strings.ToLower(name) + ".json"
}
