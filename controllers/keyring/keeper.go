// Package keyring makes, rotates and corrects the keyring that the data plane mints and checks access tokens with.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/keyring"
)

// +kubebuilder:rbac:groups="",namespace=caly-work,resources=secrets,verbs=get;list;watch;create;patch;delete

// lookEvery is how often the Secret is read. A deleted Secret is replaced within that time. The controller reads past
// the cache and without a watch, since the operator may watch the tenants' namespaces only.
const lookEvery = 10 * time.Second

// Keeper keeps the Secret with the keyring in the work namespace.
type Keeper struct {
	Client        client.Client
	APIReader     client.Reader // Secrets are read past the cache: none is kept
	WorkNamespace string
	// Policy of rotation; zero fields are the defaults.
	Policy keyring.Policy
	// Every spaces the looks; 0 is lookEvery.
	Every   time.Duration
	Metrics *Metrics
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// NeedLeaderElection makes it run on the leader alone.
func (*Keeper) NeedLeaderElection() bool { return true }

// Start looks at once and then on the interval, until ctx is done.
func (k *Keeper) Start(ctx context.Context) error {
	if err := k.Policy.Check(); err != nil {
		return fmt.Errorf("the rotation of keys: %w", err)
	}
	every := k.Every
	if every == 0 {
		every = lookEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := ""
	for {
		err := k.keep(ctx)
		if err != nil && ctx.Err() == nil {
			k.Metrics.failures.Inc()
			if err.Error() != said { // once, not at every look
				log.FromContext(ctx).Error(err, "keep the keyring; it is tried again",
					"secret", k.WorkNamespace+"/"+keyring.SecretName,
					"after", every,
				)
			}
		}
		said = text(err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// text returns the error's text, or the empty string for nil.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// found is the keyring as it is in the cluster.
type found struct {
	secret *corev1.Secret // nil where there is none
	ring   *keyring.Ring  // nil where there is none that can be read
	fault  error          // why not
}

// keep makes the Secret what it should be now.
func (k *Keeper) keep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	found, err := k.read(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	if k.Now != nil {
		now = k.Now()
	}
	next, changed, at := keyring.Rotate(found.ring, now, k.Policy)
	if changed {
		if err := k.write(ctx, found.secret, next); err != nil {
			return err
		}
		k.tell(ctx, found, next, at)
	}
	k.Metrics.signs(next, now)
	return nil
}

// read reads the Secret and parses its keyring. A missing or bad Secret is a fault in found. A keyring of
// another version is an error: a newer operator may have written it.
func (k *Keeper) read(ctx context.Context) (f found, err error) {
	var s corev1.Secret
	err = k.APIReader.Get(ctx, client.ObjectKey{Namespace: k.WorkNamespace, Name: keyring.SecretName}, &s)
	if apierrors.IsNotFound(err) {
		return found{fault: errors.New("there is none")}, nil
	}
	if err != nil {
		return found{}, err
	}
	if string(s.Type) != v1alpha1.SecretTypeKeyring {
		return found{fault: fmt.Errorf("the Secret was of type %q", s.Type)}, k.clear(ctx, &s)
	}
	ring, err := keyring.Decode(s.Data[keyring.DataKey])
	if errors.Is(err, keyring.ErrVersion) {
		return found{}, err // a newer operator's, say: its keys are good
	}
	return found{secret: &s, ring: ring, fault: err}, nil
}

// clear deletes a Secret that has the keyring's name and another type, which cannot be changed.
func (k *Keeper) clear(ctx context.Context, s *corev1.Secret) error {
	exactly := client.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion}
	return client.IgnoreNotFound(k.Client.Delete(ctx, s, exactly))
}

// tell says what was written.
func (k *Keeper) tell(ctx context.Context, f found, ring *keyring.Ring, next time.Time) {
	log := log.FromContext(
		ctx,
	).WithValues("secret", k.WorkNamespace+"/"+keyring.SecretName, "keys", len(ring.Keys), "next", next)
	if f.ring != nil {
		k.Metrics.rotations.Inc()
		log.Info("the keys of access tokens were rotated")
		return
	}
	cause := unreadable
	if f.secret == nil {
		cause = missing
	}
	k.Metrics.made.WithLabelValues(cause).Inc()
	log.Info("a new keyring was made: all users must log in again", "why", f.fault.Error())
}

// write fails where somebody else wrote meanwhile: another operator, which was the leader until now. It is then looked at again.
func (k *Keeper) write(ctx context.Context, s *corev1.Secret, ring *keyring.Ring) error {
	data, err := keyring.Encode(ring)
	if err != nil {
		return err
	}
	if s == nil {
		return k.Client.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: k.WorkNamespace, Name: keyring.SecretName, Labels: labels()},
			Type:       v1alpha1.SecretTypeKeyring,
			Data:       map[string][]byte{keyring.DataKey: data},
		})
	}
	base := s.DeepCopy()
	s.Data = map[string][]byte{keyring.DataKey: data}
	return k.Client.Patch(ctx, s, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
}

func labels() map[string]string {
	return map[string]string{
		v1alpha1.LabelComponent: v1alpha1.ComponentKeyring,
		v1alpha1.LabelManagedBy: v1alpha1.Product,
	}
}
