package shim

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
	"github.com/crio-erofs/crio-erofs/test/standin/publish"
	"github.com/crio-erofs/crio-erofs/test/standin/vm"
)

// publishOOM tells the engine of kills for want of memory until the VM ends, as runtime-rs does: without an address, in
// the log only, and never in the bundle (kata-containers src/runtime-rs/crates/runtimes/virt_container/src/sandbox.rs,
// "oom watcher start"; crates/service/src/event.rs).
func publishOOM(v *vm.VM) {
	ctx := context.Background()
	for {
		event, err := v.Agent.GetOOMEvent(ctx, &agentapi.Empty{})
		if err != nil {
			return
		}
		logrus.Warnf("container %s: a process was killed for want of memory", event.ContainerID)
		if address := publish.Address(); address != "" {
			if err := publish.OOM(ctx, address, event.ContainerID); err != nil {
				logrus.Error(err)
			}
		}
	}
}
