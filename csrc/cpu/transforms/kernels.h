// The image transforms of one instruction set; ops/transform_images.h says what each does.
#pragma once
#include "ops/transform_images.h"

namespace convcore::cpu::CONVCORE_ISA {

// geometry.cpp
void image_crop(const ImageShape&, const ImageBox&, const float* fill, const float* x, float* y);
void image_flip(const ImageShape&, bool horizontal, const float* x, float* y);
void image_quarter_turns(const ImageShape&, int64_t turns, const float* x, float* y);
void image_rotate(const ImageShape&, float cosine, float sine, const float* fill, const float* x, float* y);
void image_resize(const ImageShape&, const ImageBox&, const ResizeTaps& rows, const ResizeTaps& columns, const float* x,
                  float* scratch, float* y);
void image_fill(const ImageShape&, const ImageBox&, const float* value, float* x);

// colour.cpp
void image_brightness(const ImageShape&, float factor, float* x);
void image_contrast(const ImageShape&, float factor, float* x);
void image_saturation(const ImageShape&, float factor, float* x);
void image_hue(const ImageShape&, float turn, float* x);
void image_grayscale(const ImageShape&, int64_t channels_out, const float* x, float* y);
void image_normalize(const ImageShape&, const float* scale, const float* shift, float* x);

// filters.cpp
void image_noise(int64_t count, RandomKey, float mean, float sigma, bool clip, float* x);
void image_blur(const ImageShape&, int64_t rows, const float* row_weights, int64_t columns, const float* column_weights,
                const float* x, float* scratch, float* y);
void image_sobel(const ImageShape&, const float* x, float* scratch, float* y);

}  // namespace convcore::cpu::CONVCORE_ISA
