// Package accounts tests accounts over data-plane pods that are processes, with their database and their mail.
package accounts

import (
	"testing"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }
