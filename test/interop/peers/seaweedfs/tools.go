//go:build tools

// Package seaweedfs names the version of SeaweedFS that the tests run.
package seaweedfs

import _ "github.com/seaweedfs/seaweedfs/weed"
