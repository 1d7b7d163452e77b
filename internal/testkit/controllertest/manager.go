package controllertest

import (
	"context"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Manager returns a manager that watches the rig's namespaces, with the changes of a test. Its client records its
// writes, and reads Secrets from the API server, as the operator's does.
func (c *Cluster) Manager(t testing.TB, change ...func(*manager.Options)) manager.Manager {
	t.Helper()
	options := manager.Options{
		Scheme:     c.Scheme,
		Logger:     c.Logger(),
		Metrics:    server.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{
			c.Namespace: {},
			c.Work:      {},
			c.Uploads:   {},
		}},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
		NewClient: func(cfg *rest.Config, o client.Options) (client.Client, error) {
			withWatch, err := client.NewWithWatch(cfg, o)
			return interceptor.NewClient(withWatch, c.Writes.Funcs()), err
		},
	}
	for _, f := range change {
		f(&options)
	}
	mgr, err := manager.New(c.Config, options)
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

// Start runs a manager until the test ends or stop is called.
func Start(t testing.TB, mgr manager.Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended with: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
