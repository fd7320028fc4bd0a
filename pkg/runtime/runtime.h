/*
 * pkg/runtime: images, snapshots, containers, the pod monitor, exec and logs. OCI and Linux; nothing of Kubernetes.
 */
#pragma once

#include "runtime/image.h"
#include "runtime/preflight.h"
#include "runtime/sandbox.h"
