/*
 * pkg/base: what every other folder stands on. Memory, strings, buffers, vectors, maps, lists, errors,
 * logging, time, random, files. No I/O loop, no third-party library; everything here may be called from any
 * thread unless its header says otherwise.
 */
#pragma once

#include "base/blob.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/str.h"
#include "base/time.h"
#include "base/vec.h"
