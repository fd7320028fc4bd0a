/*
 * pkg/codec: formats as pure functions over memory. JSON, YAML, JSONPath, JSON Patch and Merge Patch, base64,
 * quantities live here; gzip, zstd and tar as streaming decoders without file descriptors.
 */
#pragma once

#include "codec/base64.h"
#include "codec/inflate.h"
#include "codec/json.h"
#include "codec/jsonpath.h"
#include "codec/patch.h"
#include "codec/quantity.h"
#include "codec/tar.h"
#include "codec/yaml.h"
