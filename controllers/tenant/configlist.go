package tenant

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Times of ConfigList.
const (
	// listEvery is how often published configs are added to the list.
	listEvery = time.Second
	// listRecheck is how often the list is read, so that a deleted one is written again.
	listRecheck = 10 * time.Second
	// compileWithin is how long a Tenant whose reconcile fails delays the first list. While every Tenant fails, as
	// without PostgreSQL, there is no list.
	compileWithin = 2 * time.Minute
)

// ConfigList keeps the list of the published tenant configs, a Secret in the work namespace. With it, a data-plane pod
// tells a tenant that does not exist from one whose config it does not have, and a Tenant's deletion from that of its
// config by accident. The list first exists when every Tenant was compiled once.
type ConfigList struct {
	Client        client.Client
	APIReader     client.Reader // Secrets are read past the cache
	WorkNamespace string
	// Every spaces the additions; 0 is listEvery.
	Every time.Duration

	writing sync.Mutex // one change of the Secret at a time

	mu       sync.Mutex
	began    time.Time
	read     time.Time
	listed   map[string]struct{} // as it was read or written last
	added    map[string]struct{} // not in the list yet
	compiled map[string]struct{} // ids of Tenants
}

// NeedLeaderElection makes it run on the leader alone.
func (*ConfigList) NeedLeaderElection() bool { return true }

// Start keeps the list until ctx is done.
func (l *ConfigList) Start(ctx context.Context) error {
	every := l.Every
	if every == 0 {
		every = listEvery
	}
	l.mu.Lock()
	l.began = time.Now()
	l.mu.Unlock()
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		err := l.keep(ctx)
		if err != nil && ctx.Err() == nil && !failing { // once, not at every look
			log.FromContext(ctx).Error(err, "keep the list of tenant configs; it is retried",
				"secret", l.WorkNamespace+"/"+tenantconfig.ListSecretName, "after", every)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Compiled notes that a Tenant was compiled, or cannot be until somebody changes it.
func (l *ConfigList) Compiled(id string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.compiled == nil {
		l.compiled = map[string]struct{}{}
	}
	l.compiled[id] = struct{}{}
}

// Publish adds a config that was written to the list, soon.
func (l *ConfigList) Publish(name string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, listed := l.listed[name]; listed {
		return
	}
	if l.added == nil {
		l.added = map[string]struct{}{}
	}
	l.added[name] = struct{}{}
}

// Withdraw removes a config from the list, before its Secret is deleted: pods forget the tenant at once.
func (l *ConfigList) Withdraw(ctx context.Context, name string) error {
	if l == nil {
		return nil
	}
	return l.update(ctx, func(names map[string]struct{}) { delete(names, name) })
}

// Prune removes configs from the list that do not exist and whose Tenants do not exist: an operator that keeps no list
// deleted them, or a person did. A pod that waits for one would never know all tenants.
func (l *ConfigList) Prune(ctx context.Context) error {
	if l == nil {
		return nil
	}
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: l.WorkNamespace, Name: tenantconfig.ListSecretName}
	if err := l.APIReader.Get(ctx, key, &secret); err != nil {
		return client.IgnoreNotFound(err)
	}
	// What is listed was published before, so that its Tenant and its Secret are found by these later looks if they
	// exist.
	stale := listOf(&secret)
	configs, err := l.existing(ctx)
	if err != nil {
		return err
	}
	maps.DeleteFunc(stale, func(name string, _ struct{}) bool { _, exists := configs[name]; return exists })
	if len(stale) == 0 {
		return nil
	}
	var tenants v1alpha1.TenantList
	if err := l.APIReader.List(ctx, &tenants); err != nil {
		return err
	}
	for i := range tenants.Items {
		delete(stale, tenantconfig.SecretName(tenantconfig.PrefixTenant, tenants.Items[i].ID()))
	}
	for name := range stale {
		log.FromContext(ctx).Info("withdrawing a tenant config that is gone", "secret", l.WorkNamespace+"/"+name)
		if err := l.Withdraw(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// keep writes what was published since, and the list itself where it is missing.
func (l *ConfigList) keep(ctx context.Context) error {
	l.mu.Lock()
	due := len(l.added) > 0 || l.listed == nil || time.Since(l.read) > listRecheck
	l.mu.Unlock()
	if !due {
		return nil
	}
	return l.update(ctx, func(map[string]struct{}) {})
}

// update changes the list, with what was published since.
func (l *ConfigList) update(ctx context.Context, change func(map[string]struct{})) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	l.writing.Lock()
	defer l.writing.Unlock()
	secret, names, err := l.current(ctx)
	if err != nil || names == nil {
		return err
	}
	before := listOf(secret)
	l.mu.Lock()
	added := l.added
	l.added = nil
	l.mu.Unlock()
	maps.Copy(names, added)
	change(names)
	if before == nil || !maps.Equal(names, before) {
		err = l.write(ctx, secret, names)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		for name := range added {
			if l.added == nil {
				l.added = map[string]struct{}{}
			}
			l.added[name] = struct{}{}
		}
		return err
	}
	l.listed = names
	l.read = time.Now()
	return nil
}

// current returns the Secret, nil if it must be created, and what the list holds, nil while there cannot be one.
func (l *ConfigList) current(ctx context.Context) (*corev1.Secret, map[string]struct{}, error) {
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: l.WorkNamespace, Name: tenantconfig.ListSecretName}
	err := l.APIReader.Get(ctx, key, &secret)
	switch {
	case apierrors.IsNotFound(err):
		names, err := l.first(ctx)
		return nil, names, err
	case err != nil:
		return nil, nil, err
	case string(secret.Type) != v1alpha1.SecretTypeTenantConfigList: // which cannot be changed
		exactly := client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion}
		return nil, nil, client.IgnoreNotFound(l.Client.Delete(ctx, &secret, exactly))
	}
	names := listOf(&secret)
	if names == nil {
		names, err = l.first(ctx)
	}
	return &secret, names, err
}

// listOf returns the list in a Secret, nil if there is none.
func listOf(secret *corev1.Secret) map[string]struct{} {
	if secret == nil {
		return nil
	}
	return tenantconfig.DecodeList(secret.Data)
}

// first returns the list of the configs that exist, nil until every Tenant was compiled once.
func (l *ConfigList) first(ctx context.Context) (map[string]struct{}, error) {
	var tenants v1alpha1.TenantList
	if err := l.Client.List(ctx, &tenants); err != nil {
		return nil, err
	}
	if !l.complete(tenants.Items) {
		return nil, nil
	}
	return l.existing(ctx)
}

// existing returns the names of the configs that exist.
func (l *ConfigList) existing(ctx context.Context) (map[string]struct{}, error) {
	configs := &metav1.PartialObjectMetadataList{}
	configs.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	err := l.APIReader.List(ctx, configs, client.InNamespace(l.WorkNamespace),
		client.MatchingLabels{v1alpha1.LabelComponent: components[v1alpha1.SecretTypeTenantConfig]})
	if err != nil {
		return nil, err
	}
	names := make(map[string]struct{}, len(configs.Items))
	for i := range configs.Items {
		names[configs.Items[i].Name] = struct{}{}
	}
	return names, nil
}

// complete reports whether every Tenant was compiled. After compileWithin, one that was is enough.
func (l *ConfigList) complete(tenants []v1alpha1.Tenant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.began.IsZero() {
		return false
	}
	open := 0
	for i := range tenants {
		if _, compiled := l.compiled[tenants[i].ID()]; !compiled && tenants[i].DeletionTimestamp.IsZero() {
			open++
		}
	}
	return open == 0 || (len(l.compiled) > 0 && time.Since(l.began) > compileWithin)
}

// write fails if somebody else wrote meanwhile.
func (l *ConfigList) write(ctx context.Context, secret *corev1.Secret, names map[string]struct{}) error {
	data := map[string][]byte{tenantconfig.ListKey: tenantconfig.EncodeList(names)}
	if secret == nil {
		log.FromContext(ctx).Info("every Tenant is compiled: data-plane pods become ready", "configs", len(names))
		return l.Client.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: l.WorkNamespace,
				Name:      tenantconfig.ListSecretName,
				Labels: map[string]string{
					v1alpha1.LabelComponent: v1alpha1.ComponentTenantConfigList,
					v1alpha1.LabelManagedBy: v1alpha1.Product,
				},
			},
			Type: v1alpha1.SecretTypeTenantConfigList,
			Data: data,
		})
	}
	base := secret.DeepCopy()
	secret.Data = data
	err := l.Client.Patch(ctx, secret, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return fmt.Errorf("write Secret %s/%s: %w", l.WorkNamespace, secret.Name, err)
	}
	return nil
}
