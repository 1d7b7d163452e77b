// Package watch keeps a data-plane pod's tenant configs and its keyring current. It is apart from package
// tenantconfig, so that upload pods, which read one file, carry no Kubernetes client.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Watcher keeps a snapshot of the tenant configs of the work namespace. A config that cannot be read leaves the tenant's
// last good one in force.
type Watcher struct {
	client    kubernetes.Interface
	namespace string
	log       *slog.Logger
	current   atomic.Pointer[tenantconfig.Snapshot]
	synced    atomic.Bool
	rejected  atomic.Int64
	keys      keys
	// Grace is how long the last value of a deleted config stays in force; 0 means deletionGrace. It is set before Run.
	Grace time.Duration

	mu        sync.Mutex // guards what follows and the swap of current
	tenants   map[string]*tenantconfig.Tenant
	byObject  map[string]string   // Secret's name -> tenant id
	unread    map[string]struct{} // names of Secrets that cannot be read as they are now
	published published
	live      bool // changes are published
}

// New returns a watcher that Run starts.
func New(client kubernetes.Interface, namespace string, log *slog.Logger) *Watcher {
	watcher := &Watcher{
		client:    client,
		namespace: namespace,
		log:       log,
		tenants:   map[string]*tenantconfig.Tenant{},
		byObject:  map[string]string{},
		unread:    map[string]struct{}{},
		published: published{deleted: map[string]*time.Timer{}},
	}
	watcher.current.Store(tenantconfig.NewIncompleteSnapshot())
	return watcher
}

// Snapshot returns the tenants known now. It costs one atomic load.
func (w *Watcher) Snapshot() *tenantconfig.Snapshot { return w.current.Load() }

// Synced tells whether every config that existed at start has been read.
func (w *Watcher) Synced() bool { return w.synced.Load() }

// Ready returns why requests should go to another pod: this pod has not read the configs that existed at start, the
// operator has not yet written the list of them, or the pod could read none. The latter is so after an upgrade, until
// the operator has written them again.
func (w *Watcher) Ready() error {
	if !w.Synced() {
		return errors.New("the tenant configs are not read yet")
	}
	w.mu.Lock()
	known := len(w.tenants)
	unread := len(w.unread)
	listed := w.published.names != nil
	missing := w.missing()
	w.mu.Unlock()
	switch {
	case !listed:
		return fmt.Errorf("the operator has not yet compiled every Tenant: Secret %s does not exist",
			tenantconfig.ListSecretName)
	case known == 0 && unread > 0:
		return fmt.Errorf(
			"none of the %d tenant configs can be read: operator and data plane must be of one release", unread,
		)
	case known == 0 && missing > 0:
		return fmt.Errorf("the operator has published %d tenant configs, and no Secret of them exists", missing)
	}
	return nil
}

// Counts are the tenants that are known, and the configs that cannot be read as they are now.
func (w *Watcher) Counts() (known, unreadable int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.tenants), len(w.unread)
}

// Rejected counts configs that could not be read.
func (w *Watcher) Rejected() int64 { return w.rejected.Load() }

// Run watches until ctx is done.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var others []func()
	defer func() {
		cancel()
		for _, stop := range others {
			stop()
		}
		w.stopTimers()
	}()
	for _, one := range []struct {
		kind, name string
		set        func(*corev1.Secret)
	}{
		{v1alpha1.SecretTypeKeyring, keyring.SecretName, w.setRing},
		{v1alpha1.SecretTypeTenantConfigList, tenantconfig.ListSecretName, w.setList},
	} {
		stop, err := w.watchOne(ctx, one.kind, one.name, one.set)
		if err != nil {
			return err
		}
		others = append(others, stop)
	}
	factory := w.factory(fields.OneTermEqualSelector("type", v1alpha1.SecretTypeTenantConfig))
	handler, err := factory.Core().V1().Secrets().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.set(o) },
		UpdateFunc: func(_, o any) { w.set(o) },
		DeleteFunc: func(o any) { w.remove(o) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	// The handler's word, not the informer's: that one has listed the configs before they have all come through set.
	if !cache.WaitForCacheSync(ctx.Done(), handler.HasSynced) {
		return errors.New("stopped before the tenant configs were read")
	}
	w.publish()
	w.log.Info("tenant configs are read", "tenants", w.Snapshot().Len())
	<-ctx.Done()
	return nil
}

// watchOne watches a single Secret. Nothing waits for it, and what was read of it stays in force when it is deleted:
// the operator writes another one soon.
func (w *Watcher) watchOne(
	ctx context.Context, kind, name string, set func(*corev1.Secret),
) (stop func(), err error) {
	factory := w.factory(fields.AndSelectors(fields.OneTermEqualSelector("type", kind),
		fields.OneTermEqualSelector("metadata.name", name)))
	use := func(o any) {
		if secret, ok := o.(*corev1.Secret); ok && string(secret.Type) == kind && secret.Name == name {
			set(secret)
		}
	}
	_, err = factory.Core().V1().Secrets().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    use,
		UpdateFunc: func(_, o any) { use(o) },
	})
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	return factory.Shutdown, nil
}

// factory makes informers of the Secrets of the work namespace that a selector names.
func (w *Watcher) factory(selector fields.Selector) informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(w.client, 0, informers.WithNamespace(w.namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = selector.String() }))
}

func (w *Watcher) set(o any) {
	secret, ok := o.(*corev1.Secret)
	if !ok || string(secret.Type) != v1alpha1.SecretTypeTenantConfig {
		return
	}
	t, err := tenantconfig.DecodeTenant(secret.Data[tenantconfig.Key])
	if err == nil && tenantconfig.SecretName(tenantconfig.PrefixTenant, t.ID) != secret.Name {
		err = errors.New("the Secret's name is not the one of the tenant in it")
	}
	if err != nil {
		w.rejected.Add(1)
		w.mu.Lock()
		w.unread[secret.Name] = struct{}{}
		w.mu.Unlock()
		w.log.Error("a tenant config cannot be read; the tenant's last good one stays in force",
			"secret", secret.Name,
			"error", err,
		)
		return
	}
	w.swap(func() {
		delete(w.unread, secret.Name)
		w.published.restored(secret.Name)
		w.byObject[secret.Name] = t.ID
		w.tenants[t.ID] = t
	})
}

// publish makes what was read at start known, at once: a snapshot for each config would take time with its square.
func (w *Watcher) publish() {
	w.swap(func() { w.live = true })
	w.synced.Store(true)
}

func (w *Watcher) remove(o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	secret, ok := o.(*corev1.Secret)
	if !ok {
		return
	}
	w.swap(func() {
		delete(w.unread, secret.Name)
		if _, known := w.byObject[secret.Name]; known && !w.published.withdrawn(secret.Name) {
			w.keepDeleted(secret.Name)
			return
		}
		w.forget(secret.Name)
	})
}

// forget ends the tenant of a Secret. The lock is held.
func (w *Watcher) forget(name string) {
	w.published.restored(name)
	delete(w.tenants, w.byObject[name])
	delete(w.byObject, name)
}

func (w *Watcher) swap(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	if !w.live {
		return
	}
	snapshot := tenantconfig.NewSnapshot
	if w.published.names == nil || w.missing() > 0 {
		snapshot = tenantconfig.NewIncompleteSnapshot
	}
	w.current.Store(snapshot(slices.Collect(maps.Values(w.tenants))...))
}
