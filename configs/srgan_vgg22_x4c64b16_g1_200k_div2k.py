# SRGAN-VGG22 x4 (Ledig et al. 2016): content loss on phi_2,2, VGG-19's conv2_2 after its ReLU.
#
#   python tools/train.py configs/srgan_vgg22_x4c64b16_g1_200k_div2k.py \
#       --cfg-options load_from=work_dirs/srresnet_x4c64b16_g1_1000k_div2k/iter_1000000.pth
#
# Features are scaled by 1/12.75, as in the paper, to make the loss about as large as the MSE. That
# depends on the weights. It holds for the rescaled weights of Gatys et al. (mean activations 1; set
# model.perceptual_loss.pretrained=FILE): between bicubic and HR on 14 images, the content loss is
# 0.020 and the MSE in [-1, 1] is 0.017. The weights of torchvision are from another training; the
# size of their activations was not measured. If loss_perceptual in the first lines of the log is
# far from 0.02, multiply feature_scale by sqrt(0.02 / loss_perceptual).
_base_ = './srgan_mse_x4c64b16_g1_200k_div2k.py'

model = dict(
    pixel_loss=None,
    perceptual_loss=dict(
        type='PerceptualLoss',
        layer_weights={'relu2_2': 1.0},
        vgg_type='vgg19',
        perceptual_weight=1.0,
        style_weight=0,
        norm_img=False,  # images are in [0, 1] here
        criterion='mse',  # eq. 5
        feature_scale=1 / 12.75,
        pretrained='torchvision://vgg19'))
